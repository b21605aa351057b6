"""Cards, balances and history over HTTP, and what a holder changes on a card."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from handlers.access import holder_session
from handlers.cursors import cursor, place
from handlers.endpoints import Call, Reply
from schemas.cards import (
    CardPage,
    CardView,
    HistoryPage,
    LossCancel,
    LossReport,
    PinChange,
    balance_json,
    card_view,
    history_entry_view,
)
from service.activations import circumstances_of
from service.actors import holder_actor
from service.cards import Card
from service.changes import LossKind, Order
from service.dependants import Act, offered_to_guardians
from service.errors import invalid
from service.holders import Holder
from service.ids import HolderId
from service.transitions import Circumstances, offers

_COUNT: Final = re.compile(r"[0-9]{1,6}")
_REPORTS: Final[Mapping[LossKind, Act]] = {
    "temporary": Act.REPORT_TEMPORARY_LOSS,
    "formal": Act.REPORT_FORMAL_LOSS,
}


async def _view(call: Call[Any], card: Card, holder: Holder) -> CardView:
    """A card with what its own holder is offered, or a guardian for them."""
    region, now = call.services.regions.get(card.region_code), call.services.clock.now()
    offered = offers(card, holder_actor(call.holder_id, "app"), region, _about(call, card, holder), now)
    if holder.holder_id != call.holder_id:
        offered = offered_to_guardians(offered)
    medical = await call.services.cards.medical_account(card.holder_id, card, region, now)
    return card_view(card, region, offered, call.locale, now, medical=medical)


def _about(call: Call[Any], card: Card, holder: Holder) -> Circumstances:
    """What decides about an activation of this card by who asks: its own holder, or a guardian of theirs."""
    regions, now = call.services.regions, call.services.clock.now()
    own = circumstances_of(holder, regions.get(card.region_code), regions.get(holder.region_code), now)
    return replace(own, guardian=holder.holder_id != call.holder_id)


async def list_cards(call: Call[None]) -> CardPage:
    """My cards, or those of a dependant of mine."""
    after = place(call.query.cursor)
    if call.query.on_behalf_of is not None:
        # Somebody else's are not read beside the session, and a look at them is written down: first it is known who asks.
        await holder_session(call.request, call.services)
    whose = await _whose(call, call.query.on_behalf_of, Act.SEE_CARDS)
    holder, (cards, following) = await asyncio.gather(
        call.services.holders.me(whose),
        call.services.cards.list_mine(whose, after, call.query.limit),
    )
    items = [await _view(call, card, holder) for card in cards]
    return CardPage(items=items, next_cursor=cursor(following), has_more=following is not None)


async def show_card(call: Call[None]) -> CardView:
    """One of my cards."""
    card, holder = await _card(call, call.holder_id)
    return await _view(call, card, holder)


async def report_loss(call: Call[LossReport]) -> CardView:
    """Report one of my cards lost, or a dependant's: for a while, or for good."""
    whose = await _whose(call, call.body.on_behalf_of, _REPORTS[call.body.kind])
    card, holder = await _card(call, whose)
    return await _changed(
        call, await call.services.changes.report_loss(card, call.body.kind, _order(call, card, holder)), holder
    )


async def cancel_loss(call: Call[LossCancel]) -> CardView:
    """One of my cards was found again, or a dependant's."""
    whose = await _whose(call, call.body.on_behalf_of, Act.CANCEL_LOSS)
    card, holder = await _card(call, whose)
    return await _changed(call, await call.services.changes.cancel_loss(card, _order(call, card, holder)), holder)


async def change_pin(call: Call[PinChange]) -> CardView:
    """Set a new service PIN for one of my cards, knowing the current one."""
    card, holder = await _card(call, call.holder_id)
    try:
        changed = await call.services.pins.change(card, call.body.current_pin, call.body.new_pin, _order(call, card, holder))
    finally:
        # A wrong try may have locked it, and its holder is told.
        call.services.relay.wake()
    return await _changed(call, changed, holder)


async def _whose(call: Call[Any], dependant_id: str | None, act: Act) -> HolderId:
    """Whose card is meant: the caller's, or that of a dependant, which is written down first."""
    if dependant_id is None:
        return call.holder_id
    return await call.services.dependants.acting_for(call.holder_id, dependant_id, act, call.now)


async def _card(call: Call[Any], whose: HolderId) -> tuple[Card, Holder]:
    """The card of the path, if it is theirs, and who they are."""
    return await asyncio.gather(call.services.cards.mine(whose, call.path("card_id")), call.services.holders.me(whose))


def _order(call: Call[Any], card: Card, holder: Holder) -> Order:
    about = _about(call, card, holder)
    return Order(call.actor, call.mark, call.locale, guardian=call.holder_id if about.guardian else None, about=about)


async def _changed(call: Call[Any], card: Card, holder: Holder) -> CardView:
    call.services.relay.wake()
    return await _view(call, card, holder)


async def show_balance(call: Call[None]) -> Reply:
    """The balances of one of my cards."""
    balance = await call.services.balances.of_card(call.holder_id, call.path("card_id"))
    region = call.services.regions.get(balance.region_code)
    old_before = call.now - region.policy.figures_old_after
    if call.services.figures.wanted(call.holder_id, balance, old_before):
        # Nobody is asked about somebody before it is known who wants to know.
        await holder_session(call.request, call.services)
        balance = await call.services.figures.brought(call.holder_id, balance)
    medical = await call.services.cards.medical_account(call.holder_id, balance, region, call.now)
    return Reply(balance_json(balance, medical, call.now, old_before))


async def show_history(call: Call[None]) -> HistoryPage:
    """What happened to one of my cards, newest first."""
    entries = await call.services.cards.history(call.holder_id, call.path("card_id"))
    # Counted from the oldest, so that what happens meanwhile moves no page.
    text = place(call.query.cursor) or str(len(entries))
    if not _COUNT.fullmatch(text) or int(text) > len(entries):
        raise invalid("cursor", "invalid")
    begin = len(entries) - int(text)
    page = entries[begin : begin + call.query.limit]
    left = int(text) - len(page)
    following = cursor(str(left)) if left else None
    return HistoryPage(items=[history_entry_view(entry) for entry in page], next_cursor=following, has_more=left > 0)
