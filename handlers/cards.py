"""Cards, balances and history over HTTP."""

import re
from typing import Final

from handlers.cursors import cursor, place
from handlers.endpoints import Call, Reply
from schemas.cards import CardPage, CardView, HistoryPage, balance_json, card_view, history_entry_view
from service.cards import Card
from service.errors import invalid

_COUNT: Final = re.compile(r"[0-9]{1,6}")


def _view(call: Call[None], card: Card) -> CardView:
    return card_view(card, call.services.regions.get(card.region_code), call.locale, call.now)


async def list_cards(call: Call[None]) -> CardPage:
    """My cards."""
    cards, following = await call.services.cards.list_mine(call.holder_id, place(call.query.cursor), call.query.limit)
    items = [_view(call, card) for card in cards]
    return CardPage(items=items, next_cursor=cursor(following), has_more=following is not None)


async def show_card(call: Call[None]) -> CardView:
    """One of my cards."""
    return _view(call, await call.services.cards.mine(call.holder_id, call.path("card_id")))


async def show_balance(call: Call[None]) -> Reply:
    """The balances of one of my cards."""
    balance = await call.services.balances.of_card(call.holder_id, call.path("card_id"))
    region = call.services.regions.get(balance.region_code)
    return Reply(balance_json(balance, region, call.now))


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
