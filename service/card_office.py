"""The card office: puts together what applying for cards and producing them take.

True here: stores and neighbours come from outside, and its parts know each other as narrowly as they state. Never here: a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

from service.applications import Applications, ApplicationStore, InsuranceRelations
from service.bulk_applications import BulkApplications
from service.card_making import CardMaking, ProductionCards
from service.changes import Changes
from service.clock import Clock
from service.holders import AccessLogStore
from service.limits import Limits
from service.newcomers import Newcomers, NewcomerStore
from service.notifications import Notifications
from service.production import Production
from service.production_batches import BatchStore, ProductionBatches
from service.regions import Regions
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class CardOffice:
    """From an application to a card in the hand."""

    applications: Applications
    bulk_applications: BulkApplications
    production: Production
    production_batches: ProductionBatches


def card_office(  # noqa: PLR0913  everything it stands on, named
    *,
    store: ApplicationStore,
    batches: BatchStore,
    cards: ProductionCards,
    holders: NewcomerStore,
    accesses: AccessLogStore,
    changes: Changes,
    insurance: InsuranceRelations,
    notifications: Notifications,
    limits: Limits,
    regions: Regions,
    vault: Vault,
    clock: Clock,
    has_a_place: Callable[[str], bool],
) -> CardOffice:
    """`has_a_place`: whether an ID number may be somebody's in this environment."""
    applications = Applications(store=store, cards=cards, holders=holders, insurance=insurance, regions=regions, clock=clock)
    production = Production(
        store=store,
        batches=batches,
        cards=cards,
        making=CardMaking(store=store, cards=cards, changes=changes, holders=holders, regions=regions, clock=clock),
        holders=holders,
        insurance=insurance,
        log=accesses,
        notifications=notifications,
        regions=regions,
        vault=vault,
        clock=clock,
    )
    return CardOffice(
        applications=applications,
        bulk_applications=BulkApplications(
            applications=applications,
            newcomers=Newcomers(holders, vault, has_a_place),
            log=accesses,
            limits=limits,
            regions=regions,
            clock=clock,
        ),
        production=production,
        production_batches=ProductionBatches(store=batches, applications=store, following=production, clock=clock),
    )
