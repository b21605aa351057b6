"""The counter office: puts together what operators do at bank, hospital, bureau and hotline.

True here: stores and neighbours come from outside. Never here: a rule.
"""

from dataclasses import dataclass

from service.activations import Activations, ActivationStore
from service.approvals import Approvals, ApprovalStore
from service.cards import Cards
from service.changes import Changes
from service.clock import Clock
from service.consents import Consents
from service.counters import Counters
from service.desks import Desk
from service.holders import HolderStore
from service.hotline import CallCodeStore, Hotline
from service.limits import Limits
from service.lookups import LookUps
from service.notifications import Notifications
from service.regions import Regions
from service.staff_cards import StaffCards
from service.vault import Vault
from service.visits import Visits, VisitStore


@dataclass(frozen=True, slots=True)
class CounterOffice:
    """From a look-up to what takes a second person."""

    look_ups: LookUps
    hotline: Hotline
    counters: Counters
    visits: Visits
    staff_cards: StaffCards
    approvals: Approvals


def counter_office(  # noqa: PLR0913  everything it stands on, named
    *,
    calls: CallCodeStore,
    approvals: ApprovalStore,
    visits: VisitStore,
    cards: ActivationStore,
    holders: HolderStore,
    desk: Desk,
    changes: Changes,
    activations: Activations,
    consents: Consents,
    notifications: Notifications,
    limits: Limits,
    regions: Regions,
    vault: Vault,
    clock: Clock,
) -> CounterOffice:
    """All of it on the same stores."""
    hotline = Hotline(store=calls, desk=desk, notifications=notifications, limits=limits, vault=vault, clock=clock)
    counters = Counters(
        desk=desk, holders=holders, activations=activations, hotline=hotline, regions=regions, limits=limits, clock=clock
    )
    return CounterOffice(
        look_ups=LookUps(
            desk=desk, consents=consents, limits=limits, regions=regions, notifications=notifications, clock=clock
        ),
        hotline=hotline,
        counters=counters,
        visits=Visits(store=visits, counters=counters, activations=activations, clock=clock),
        staff_cards=StaffCards(
            cards=Cards(cards), store=cards, holders=holders, desk=desk, hotline=hotline, regions=regions, clock=clock
        ),
        approvals=Approvals(store=approvals, cards=cards, changes=changes, desk=desk, clock=clock),
    )
