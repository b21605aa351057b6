"""A holder's rights in their data: puts together consents, the copy and erasure.

True here: stores and neighbours come from outside. Never here: a rule.
"""

from dataclasses import dataclass

from service.applications import ApplicationStore
from service.cards import CardStore
from service.clock import Clock
from service.consents import Consents, ConsentStore
from service.erasures import Erasures, ErasureStore, Forgetting
from service.errands import Errands
from service.exports import CopyStore, Exports
from service.holders import AccessLogStore, HolderStore
from service.insurance import RelationStore
from service.limits import Limits
from service.notifications import Notifications


@dataclass(frozen=True, slots=True)
class DataRights:
    """Agreeing, having a copy, being forgotten."""

    consents: Consents
    exports: Exports
    erasures: Erasures

    @property
    def errands(self) -> tuple[Errands, ...]:
        """What the relay does for them."""
        return (self.consents, self.erasures)


def data_rights(  # noqa: PLR0913  everything it stands on, named
    *,
    consents: ConsentStore,
    copies: CopyStore,
    erasures: ErasureStore,
    holders: HolderStore,
    cards: CardStore,
    applications: ApplicationStore,
    relations: RelationStore,
    accesses: AccessLogStore,
    ledger: Forgetting,
    notifications: Notifications,
    limits: Limits,
    clock: Clock,
) -> DataRights:
    """All of it on the same stores."""
    return DataRights(
        consents=Consents(store=consents, holders=holders, log=accesses, notifications=notifications),
        exports=Exports(store=copies, holders=holders, log=accesses, notifications=notifications, limits=limits),
        erasures=Erasures(
            store=erasures,
            holders=holders,
            cards=cards,
            applications=applications,
            relations=relations,
            log=accesses,
            ledger=ledger,
            notifications=notifications,
            clock=clock,
        ),
    )
