"""Cards at a counter over HTTP: what an operator changes on a card, and the check of a PIN."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from handlers.approvals import accepted
from handlers.endpoints import Call, Reply
from schemas.cards import CardView, card_view
from schemas.staff_cards import (
    ActivationReversal,
    CardCancel,
    CardLock,
    CardUnlock,
    PinCheck,
    PinCheckView,
    Presented,
    StaffLossReport,
    pin_check_view,
)
from service.approvals import Kind
from service.cards import Card
from service.changes import REPORTS
from service.staff_cards import NOBODY_THERE, Admitted, Shown, Task
from service.transitions import Action, needs_second_person, offers

_ASKED_FOR: Final[dict[Action, Kind]] = {
    Action.CANCEL: "cancel",
    Action.UNLOCK: "unlock",
    Action.REVERSE_ACTIVATION: "reverseActivation",
}


async def report_card_loss(call: Call[StaffLossReport]) -> CardView:
    """Report a card lost for its holder, who is at the counter or, for a temporary loss, on the phone."""
    body = call.body
    async with _admitted(call, REPORTS[body.kind], body.shown(), body.reason) as at:
        return await _changed(call, at, await call.services.changes.report_loss(at.card, body.kind, at.order))


async def cancel_card_loss(call: Call[Presented]) -> CardView:
    """A card that was reported lost was found again."""
    async with _admitted(call, Action.CANCEL_LOSS, call.body.shown()) as at:
        return await _changed(call, at, await call.services.changes.cancel_loss(at.card, at.order))


async def reset_card_pin(call: Call[Presented]) -> CardView:
    """Give a card its first service PIN again, for who shows who they are. It opens nothing until it is changed."""
    async with _admitted(call, Action.RESET_PIN, call.body.shown()) as at:
        return await _changed(call, at, await call.services.pins.reset(at.card, at.order))


async def lock_card(call: Call[CardLock]) -> CardView:
    """Lock a card's application, at its holder's wish or for fraud."""
    async with _admitted(call, Action.LOCK, call.body.shown(), call.body.reason) as at:
        return await _changed(call, at, await call.services.changes.lock(at.card, call.body.reason, at.order))


async def unlock_card(call: Call[CardUnlock]) -> CardView | Reply:
    """Unlock a card's application. After fraud it is only asked for, and the 202 is the approval that it waits for."""
    if (asked := await call.services.approvals.asked_in(call.mark)) is not None:
        return accepted(call, asked)
    async with _admitted(call, Action.UNLOCK, call.body.shown()) as at:
        if needs_second_person(Action.UNLOCK, at.card) and not at.done:
            return await _ask(call, Action.UNLOCK, at, call.body.reason)
        return await _changed(call, at, await call.services.changes.unlock(at.card, at.order))


async def cancel_card(call: Call[CardCancel]) -> Reply:
    """Ask to cancel a card for good. It takes a second person: nothing changes until one has approved it."""
    return await _asked(call, Action.CANCEL, call.body.shown(), call.body.reason)


async def reverse_card_activation(call: Call[ActivationReversal]) -> Reply:
    """Ask to seal an activated card again. It takes a second person: nothing changes until one has approved it."""
    return await _asked(call, Action.REVERSE_ACTIVATION, NOBODY_THERE, call.body.reason)


async def activate_card_bank(call: Call[Presented]) -> CardView:
    """Activate the bank account on a card in use, at an outlet of its own bank, or wake one that sleeps."""
    async with _admitted(call, Action.ACTIVATE_BANK, call.body.shown()) as at:
        return await _changed(call, at, await call.services.changes.activate_bank(at.card, at.order))


async def check_pin(call: Call[PinCheck]) -> PinCheckView:
    """Whether this is the service PIN of a card, as pharmacies and hospitals ask before they use it."""
    services, task = call.services, Task(Action.CHECK_PIN, NOBODY_THERE, None, b"", call.locale)
    async with services.staff_cards.admit(call.operator, call.body.card_id, task) as at:
        try:
            card = await services.pins.check(at.card, call.body.pin, at.order)
        finally:
            # A wrong try may have locked it, and its holder is told.
            services.relay.wake()
    medical = await services.cards.medical_account(card.holder_id, card, at.region, call.now)
    return pin_check_view(card, medical, at.region.policy.service_pin.max_tries)


def _admitted(
    call: Call[Any], action: Action, shown: Shown, reason: str | None = None
) -> AbstractAsyncContextManager[Admitted]:
    """Around what is done: the card of the path, once it is sure that this may be done with it."""
    task = Task(action, shown, reason, call.mark, call.locale)
    return call.services.staff_cards.admit(call.operator, call.path("card_id"), task)


async def _changed(call: Call[Any], at: Admitted, card: Card) -> CardView:
    """The card as it is now, with what this operator may do with it."""
    call.services.relay.wake()
    now = call.services.clock.now()
    medical = await call.services.cards.medical_account(card.holder_id, card, at.region, now)
    offered = offers(card, at.order.actor, at.region, at.about, now)
    return card_view(card, at.region, offered, call.locale, now, medical=medical)


async def _asked(call: Call[Any], action: Action, shown: Shown, reason: str) -> Reply:
    """What this request asks for now, or asked for before its answer was lost."""
    if (asked := await call.services.approvals.asked_in(call.mark)) is not None:
        return accepted(call, asked)
    # A reason in free words is for the second person; the holder's log says what was asked for.
    told = reason if action is Action.CANCEL else None
    async with _admitted(call, action, shown, told) as at:
        return await _ask(call, action, at, reason)


async def _ask(call: Call[Any], action: Action, at: Admitted, reason: str | None) -> Reply:
    asked = await call.services.approvals.ask(call.operator, _ASKED_FOR[action], at.card, reason, at.order)
    return accepted(call, asked)
