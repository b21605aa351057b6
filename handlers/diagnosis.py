"""The diagnosis of a card over HTTP."""

import asyncio

from handlers.endpoints import Call
from schemas.diagnosis import DiagnosisView, diagnosis_view
from service.activations import circumstances_of
from service.cards import MOST_CARDS
from service.diagnosis import Prospects, diagnose


async def show_diagnosis(call: Call[None]) -> DiagnosisView:
    """What stands in the way of using one of my cards, and the next steps with channels and materials."""
    card, holder, (cards, _), ended = await asyncio.gather(
        call.services.cards.mine(call.holder_id, call.path("card_id")),
        call.services.holders.me(call.holder_id),
        call.services.cards.list_mine(call.holder_id, None, MOST_CARDS),
        call.services.insurances.has_ended(call.holder_id),
    )
    regions = call.services.regions
    region = regions.get(card.region_code)
    about = circumstances_of(holder, region, regions.get(holder.region_code), call.now)
    beside = Prospects([other for other in cards if other.card_id != card.card_id], insured=not ended)
    return diagnosis_view(diagnose(card, region, about, beside, call.now), call.locale)
