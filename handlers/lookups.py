"""Look-ups of people by operators, over HTTP."""

from handlers.endpoints import Call
from schemas.cards import card_view
from schemas.lookups import LookedUpView, LookUp, looked_up_view


async def look_up_holder(call: Call[LookUp]) -> LookedUpView:
    """Who has this ID number, masked, with the cards that I may see. Written into the holder's log before it is shown."""
    body, services = call.body, call.services
    found = await services.look_ups.look_up(call.operator, body.id_number, body.reason, body.ticket)
    now = services.clock.now()
    cards = [card_view(one.card, one.region, one.offers, call.locale, now, medical=one.medical) for one in found.cards]
    return looked_up_view(found.holder, cards)
