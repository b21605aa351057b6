"""Consents on the wire: what I may agree to, in which words, and what I said."""

from datetime import datetime

from schemas.wire import Body, Instant, View
from service.consents import Consent, ConsentState, Purpose
from service.locale import Locale, text


class ConsentGift(Body):
    """What to agree to."""

    purpose: Purpose


class ConsentView(View):
    """One purpose with its text, and what I said about it. `version` is the text's.

    `consentId` is null until I have agreed once; `state` is `outdated` when another text has followed the one I agreed to,
    and `title`, `text` and `version` are then those to agree to now.
    """

    consent_id: str | None
    purpose: Purpose
    title: str
    text: str
    version: int
    given_at: Instant | None
    withdrawn_at: Instant | None
    state: ConsentState


class ConsentPage(View):
    """Every purpose there is."""

    items: list[ConsentView]
    next_cursor: str | None
    has_more: bool


def consent_view(consent: Consent, locale: Locale, now: datetime) -> ConsentView:
    shown = consent.shown_wording(now)
    words = f"consents.{consent.purpose}.v{shown}"
    return ConsentView(
        consent_id=consent.consent_id if consent.turns else None,
        purpose=consent.purpose,
        title=text(locale, f"{words}.title"),
        text=text(locale, f"{words}.text"),
        version=shown,
        given_at=consent.given_at,
        withdrawn_at=consent.withdrawn_at,
        state=consent.state(now),
    )
