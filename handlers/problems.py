"""Problems: a refusal as RFC 9457 JSON, in the caller's language.

True here: the one table from kinds to statuses. A problem says what we know and never what was sent.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from service.errors import KINDS, Code, Kind, Refusal
from service.idempotency import Answer
from service.locale import Locale, catalogue, text

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[Kind, int]] = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.TIMEOUT: 408,
    Kind.CONFLICT: 409,
    Kind.GONE: 410,
    Kind.TOO_LARGE: 413,
    Kind.MEDIA_TYPE: 415,
    Kind.INVALID: 422,
    Kind.LIMITED: 429,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
}


def status_of(code: Code) -> int:
    """The HTTP status that goes with a code."""
    return STATUSES[KINDS[code]]


def problem(refusal: Refusal, locale: Locale, request_id: str) -> Answer:
    """The refusal as a problem document."""
    code = refusal.code
    status = status_of(code)
    body: dict[str, object] = {
        "type": f"urn:yika:problem:{code}",
        "title": text(locale, f"problems.{code}.title"),
        "status": status,
        "detail": _detail(refusal, locale),
        "code": code,
        "requestId": request_id,
        **refusal.facts,
    }
    if refusal.retry_after is not None:
        body["retryAfter"] = refusal.retry_after
    if refusal.errors:
        body["errors"] = [
            {"field": e.field, "code": e.code, "message": text(locale, f"fields.{e.code}", **e.facts)} for e in refusal.errors
        ]
    return Answer(status, MEDIA_TYPE, orjson.dumps(body))


def _detail(refusal: Refusal, locale: Locale) -> str:
    """The advice that goes with the reason, where there is one; it says more than the code's own."""
    key = f"reasons.{refusal.facts.get('reason')}"
    return text(locale, key if key in catalogue() else f"problems.{refusal.code}.detail")
