"""Consents over HTTP: what I may agree to, giving and withdrawing."""

from typing import Any

from handlers.endpoints import Call
from schemas.consents import ConsentGift, ConsentPage, ConsentView, consent_view
from service.consents import Ask


async def list_consents(call: Call[None]) -> ConsentPage:
    """What I may agree to, in which words, and what I said."""
    consents = await call.services.consents.mine(call.holder_id)
    items = [consent_view(consent, call.locale, call.now) for consent in consents]
    return ConsentPage(items=items, next_cursor=None, has_more=False)


async def give_consent(call: Call[ConsentGift]) -> ConsentView:
    """Agree to a purpose. It counts from the next request on; agreeing again changes nothing."""
    consent = await call.services.consents.give(call.holder_id, call.body.purpose, ask=_ask(call))
    call.services.relay.wake()
    return consent_view(consent, call.locale, call.now)


async def withdraw_consent(call: Call[None]) -> ConsentView:
    """Take a consent back. It counts from the next request on; what was done before stays done."""
    consent = await call.services.consents.withdraw(call.holder_id, call.path("consent_id"), ask=_ask(call))
    call.services.relay.wake()
    return consent_view(consent, call.locale, call.now)


def _ask(call: Call[Any]) -> Ask:
    return Ask("app", call.locale, call.mark, call.now)
