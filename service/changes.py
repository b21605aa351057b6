"""Changes of a card's state: loss, locks, cancelling, and what else a counter does with a card.

True here: every change is judged by the table, made as one conditional write, and judged anew when somebody else was first; a
request that comes again finds its own work in the card's history and changes nothing more. What takes two people is done for
an approval only. Never here: who may; that is the table (service/transitions.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from service.actors import Actor
from service.cards import BankStatus, Card, CardStore, Happened, LockReason, MedicalStatus, Status
from service.clock import Clock
from service.errors import Refusal
from service.ids import HolderId
from service.locale import Locale
from service.regions import Channel, Region, Regions
from service.transitions import TRANSITIONS, Action, Circumstances, needs_second_person, refusal

LossKind = Literal["temporary", "formal"]
# Why a card ends: its holder died or emigrated, or it should never have been.
CancelReason = Literal["death", "emigration", "error"]

# A conflict means somebody changed the card between our read and our write; more than a few in a row is not chance.
ROUNDS: Final = 5
REPORTS: Final[Mapping[LossKind, Action]] = {
    "temporary": Action.REPORT_TEMPORARY_LOSS,
    "formal": Action.REPORT_FORMAL_LOSS,
}
# The medical account is the person's and outlives a card; these end the insurance relation with it.
_ENDS_INSURANCE: Final = frozenset({"death", "emigration"})
# Whoever hands out a new card without standing behind a counter does so in the bureau's name.
_HANDING_OUT: Final[Channel] = "bureau"

Make = Callable[[Card, Region, datetime], Card]


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants something done: the actor, the mark of the keyed request (empty without one), the language to tell it in.

    `guardian`: who acts for a minor, online or at the counter; `approved_by`: the second person, for what takes two; `about`:
    what is known of the holder, so that a refusal can say whether the card could be activated instead.
    """

    actor: Actor
    request: bytes
    locale: Locale
    guardian: HolderId | None = None
    approved_by: str | None = None
    about: Circumstances | None = None


def happened(name: str, card: Card, order: Order, at: datetime, reason: str | None = None) -> Happened:
    """What an order did to a card. Whoever acts for a minor is told; else the holder is."""
    return Happened(
        name=name,
        at=at,
        channel=order.actor.channel or _HANDING_OUT,
        by=order.actor.actor_id,
        reason=reason,
        request=order.request or None,
        tell=order.guardian or card.holder_id,
        locale=order.locale,
        guardian=order.guardian,
        approved_by=order.approved_by,
    )


class Changes:
    """The verbs of the counter that change a card.

    Each takes a card that the caller has a right to, and returns it as it is afterwards. Each refuses with
    `channel_not_allowed`, `transition_not_allowed` (with `from`, `allowed`, `reason`), `forbidden` for want of an approval, or
    `unavailable` when the card does not hold still.
    """

    def __init__(self, store: CardStore, regions: Regions, clock: Clock) -> None:
        self._store = store
        self._regions = regions
        self._clock = clock

    async def report_loss(self, card: Card, kind: LossKind, order: Order) -> Card:
        """Report a card lost: for the days that the region gives, or for good."""
        if kind == "formal":
            return await self.carry_out(REPORTS[kind], card, order, _become(Status.FORMALLY_LOST))

        def lost(now_is: Card, region: Region, now: datetime) -> Card:
            until = now + timedelta(days=region.policy.temporary_loss_days)
            return replace(now_is, stored_status=Status.TEMPORARILY_LOST, temporary_loss_until=until)

        return await self.carry_out(REPORTS[kind], card, order, lost)

    async def cancel_loss(self, card: Card, order: Order) -> Card:
        """The card was found."""
        return await self.carry_out(Action.CANCEL_LOSS, card, order, _become(Status.ACTIVE))

    async def lock(self, card: Card, reason: LockReason, order: Order) -> Card:
        """Lock the card's application. One that is locked for fraud is unlocked by two people."""

        def locked(now_is: Card, _: Region, __: datetime) -> Card:
            return replace(now_is, stored_status=Status.LOCKED, lock_reason=reason)

        return await self.carry_out(Action.LOCK, card, order, locked, reason)

    async def unlock(self, card: Card, order: Order) -> Card:
        """Unlock it again."""
        return await self.carry_out(Action.UNLOCK, card, order, _become(Status.ACTIVE))

    async def cancel(self, card: Card, reason: CancelReason, order: Order) -> Card:
        """Cancel the card for good; it takes two people.

        The account on the card closes with it. The medical account is the person's: it closes only where the insurance
        relation ends, and goes on under the next card where this one was a mistake.
        """

        def ended(now_is: Card, _: Region, __: datetime) -> Card:
            closed = _cancelled(now_is)
            return replace(closed, stored_medical=MedicalStatus.CLOSED) if reason in _ENDS_INSURANCE else closed

        return await self.carry_out(Action.CANCEL, card, order, ended, reason)

    async def reverse_activation(self, card: Card, order: Order) -> Card:
        """Seal an activated card again; it takes two people. The account on it stays what it is: that is the bank's."""

        def sealed(now_is: Card, _: Region, __: datetime) -> Card:
            return replace(now_is, stored_status=Status.SEALED, activation=None)

        return await self.carry_out(Action.REVERSE_ACTIVATION, card, order, sealed)

    async def activate_bank(self, card: Card, order: Order) -> Card:
        """Activate the account on a card in use, at an outlet of its bank, or wake one that sleeps."""

        def opened(now_is: Card, _: Region, __: datetime) -> Card:
            return replace(now_is, bank=replace(now_is.bank, status=BankStatus.ACTIVE))

        return await self.carry_out(Action.ACTIVATE_BANK, card, order, opened)

    async def replaced(self, card: Card, order: Order) -> Card:
        """The new card was handed out, so this one is over, whatever its state was. Already over: nothing happens.

        Who may was decided with the application; here it is only carried out, as often as need be.
        """
        return await self._end(card, TRANSITIONS[Action.REPLACE].happening, None, order)

    async def discarded(self, card: Card, why: str, order: Order) -> Card:
        """The card was made and will be handed to nobody. Decided with its application, as `replaced` is."""
        return await self._end(card, "discarded", why, order)

    async def _end(self, card: Card, name: str, reason: str | None, order: Order) -> Card:
        for _ in range(ROUNDS):
            now = self._clock.now()
            if card.stored_status is Status.CANCELLED:
                return card
            what = happened(name, card, order, now, reason)
            changed = await self._store.change(card, _cancelled(card.as_of(now)), what)
            if changed is not None:
                return changed
            card = await self.anew(card)
        raise Refusal("unavailable", retry_after=1)

    async def carry_out(self, action: Action, card: Card, order: Order, make: Make, reason: str | None = None) -> Card:
        """Judge an action, make the card that it leads to, and write it; begin anew when the card was changed meanwhile.

        `make` gets the card with nothing in it that time has ended. A request that did this before gets the card as it is.
        """
        if await self._store.did(card, order.request):
            return await self.anew(card)
        for _ in range(ROUNDS):
            now, region = self._clock.now(), self._regions.get(card.region_code)
            if no := refusal(action, card, order.actor, region, now, about=order.about):
                raise no
            _require_second_person(action, card, order)
            what = happened(TRANSITIONS[action].happening, card, order, now, reason)
            changed = await self._store.change(card, make(card.as_of(now), region, now), what)
            if changed is not None:
                return changed
            card = await self.anew(card)
        raise Refusal("unavailable", retry_after=1)

    async def anew(self, card: Card) -> Card:
        """The card as it is now. Refuses with `not_found` when it is no more."""
        found = await self._store.card(card.card_id, card.holder_id)
        if found is None:
            raise Refusal("not_found")
        return found


def _become(status: Status) -> Make:
    """Nothing but another status: with it go the end of a temporary loss and the reason of a lock."""

    def become(now_is: Card, _: Region, __: datetime) -> Card:
        return replace(now_is, stored_status=status, temporary_loss_until=None, lock_reason=None)

    return become


def _cancelled(card: Card) -> Card:
    bank = card.bank if card.bank.status is BankStatus.NONE else replace(card.bank, status=BankStatus.CLOSED)
    return replace(card, stored_status=Status.CANCELLED, temporary_loss_until=None, lock_reason=None, bank=bank)


def _require_second_person(action: Action, card: Card, order: Order) -> None:
    if needs_second_person(action, card) and order.approved_by in {None, order.actor.actor_id}:
        raise Refusal("forbidden", {"reason": "secondPersonRequired"})
