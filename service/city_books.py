"""The city's books: puts together what looking things up in them takes.

True here: stores and the way to the city come from outside, and every look-up shares the one `Upstream`. Never here: a rule.
"""

from dataclasses import dataclass

from service.balances import BalanceStore
from service.clock import Clock
from service.contributions import ContributionRecord, Contributions
from service.figures import Figures, FigureStore
from service.gateways.upstream import UpstreamGateway
from service.holders import HolderStore
from service.housing_funds import HousingFund, HousingFunds
from service.last_known import LastKnown, LastKnownStore
from service.regions import Regions
from service.upstream import SHARE, Upstream
from service.upstream_documents import (
    contributions_document,
    housing_fund_document,
    read_contributions,
    read_housing_fund,
)


@dataclass(frozen=True, slots=True)
class CityBooks:
    """What can be looked up in them."""

    upstream: Upstream
    figures: Figures
    contributions: Contributions
    housing_funds: HousingFunds

    def forget(self) -> None:
        """Nothing has been asked yet: for a sandbox that is put back, and its clock with it."""
        self.upstream.forget()
        self.figures.forget()


def city_books(  # noqa: PLR0913  everything it stands on, named
    *,
    gateway: UpstreamGateway,
    store: LastKnownStore,
    figures: FigureStore,
    balances: BalanceStore,
    holders: HolderStore,
    regions: Regions,
    clock: Clock,
    request_seconds: float,
) -> CityBooks:
    """`request_seconds`: the deadline of a request, of which a question to the city takes a part."""
    upstream = Upstream(gateway, holders, clock, seconds=SHARE * request_seconds)
    contributions: LastKnown[ContributionRecord] = LastKnown(
        "contributions",
        read_contributions,
        contributions_document,
        upstream=upstream,
        store=store,
        holders=holders,
        regions=regions,
        clock=clock,
    )
    housing_fund: LastKnown[HousingFund] = LastKnown(
        "housingFund",
        read_housing_fund,
        housing_fund_document,
        upstream=upstream,
        store=store,
        holders=holders,
        regions=regions,
        clock=clock,
    )
    return CityBooks(
        upstream=upstream,
        figures=Figures(upstream, figures, balances, clock),
        contributions=Contributions(contributions),
        housing_funds=HousingFunds(housing_fund),
    )
