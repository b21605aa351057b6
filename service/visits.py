"""Visits: somebody registers, is seen, or stays at a designated hospital, and shows their card.

True here: the first visit with a card that was never activated activates it, for a minor with a guardian there; with a card in
use a visit is recorded and changes nothing; with any other card it is refused as an activation would be. A visit is kept under
an id that follows from its request, after the card was activated, so that a retry makes neither twice. Never here: why
somebody is at a hospital.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.activations import Activations
from service.cards import Card, MedicalStatus, Status
from service.changes import Order
from service.clock import Clock
from service.counters import Counters, Given, Matched
from service.desks import sees
from service.errors import Refusal
from service.ids import CardId, HolderId, InstitutionId, OperatorId, VisitId, derived_id
from service.locale import Locale
from service.operators import Operator
from service.regions import Category
from service.transitions import Action, channels_for, refusal_of

VisitKind = Literal["registration", "outpatient", "hospitalisation"]


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit as it was recorded. `activated`: whether it activated the card."""

    visit_id: VisitId
    card_id: CardId
    holder_id: HolderId
    kind: VisitKind
    at: datetime
    by: OperatorId
    institution_id: InstitutionId
    guardian: HolderId | None
    activated: bool


@dataclass(frozen=True, slots=True)
class Visited:
    """The answer: the visit, and the card as it is now."""

    visit: Visit
    card: Card
    medical: MedicalStatus


class VisitStore(Protocol):
    """Where visits are kept."""

    async def add(self, visit: Visit) -> Visit:
        """Keep a visit; the one with its id when that is kept already."""


class Visits:
    """Recording visits."""

    def __init__(self, *, store: VisitStore, counters: Counters, activations: Activations, clock: Clock) -> None:
        self._store = store
        self._counters = counters
        self._activations = activations
        self._clock = clock

    async def record(self, operator: Operator, given: Given, kind: VisitKind, request: bytes, locale: Locale) -> Visited:
        """Record a visit, and activate the card when it is the first.

        Refuses like `Counters.match` and `Activations.perform`; with `channel_not_allowed` for a card of a region that the
        hospital does not work for.
        """
        matched = await self._counters.match(operator, given, action="visit", reason=kind, ticket=None, request=request)
        if not sees(operator.actor(), matched.card):
            raise Refusal("channel_not_allowed", {"channels": channels_for(Action.ACTIVATE, Status.SEALED, matched.region)})
        order = Order(operator.actor(), request, locale, guardian=matched.guardian)
        card = await self._in_use(matched, given, order)
        visit = Visit(
            visit_id=VisitId(derived_id("vis", request.hex())),
            card_id=card.card_id,
            holder_id=card.holder_id,
            kind=kind,
            at=self._clock.now(),
            by=operator.operator_id,
            institution_id=operator.institution.institution_id,
            guardian=matched.guardian,
            activated=card.activation is not None and card.activation.request == request,
        )
        kept = await self._store.add(visit)
        return Visited(kept, card, await self._activations.medical_account(card, self._clock.now()))

    async def _in_use(self, matched: Matched, given: Given, order: Order) -> Card:
        """The card when it is in use; activated for that, unless it was."""
        if refusal_of(Action.ACTIVATE, matched.card, matched.region, self._clock.now()) == "alreadyActivated":
            return matched.card
        category: Category = "minor" if matched.minor else "adult"
        return (await self._activations.perform(matched.card, given.id_number, order, category=category)).card
