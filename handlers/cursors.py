"""Cursors: where the next page of a list begins. Opaque to clients, so that what is behind them may change."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final

from service.errors import invalid
from service.ids import is_id

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def cursor(place: str | None) -> str | None:
    """A place as a cursor."""
    return None if place is None else base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place(cursor_text: str | None) -> str | None:
    """The place a cursor stands for. Refuses with `invalid_request` for one we never gave."""
    if cursor_text is None:
        return None
    try:
        padded = cursor_text + "=" * (-len(cursor_text) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise invalid("cursor", "invalid") from None
    if not text.isprintable() or not text:
        raise invalid("cursor", "invalid")
    return text


def moment_cursor(following: tuple[datetime, str] | None) -> str | None:
    """The cursor of a list that is in order of time: the moment and the id of the last that was shown."""
    return cursor(f"{(following[0] - _EPOCH) // _MILLISECOND}.{following[1]}") if following else None


def moment_place(given: str | None, prefix: str) -> tuple[datetime, str] | None:
    """The moment and id that such a cursor stands for. Refuses with `invalid_request` for one we never gave."""
    text = place(given)
    if text is None:
        return None
    milliseconds, _, named = text.partition(".")
    if not milliseconds.isdigit() or len(milliseconds) > 14 or not is_id(prefix, named):  # noqa: PLR2004  year 5138
        raise invalid("cursor", "invalid")
    return _EPOCH + int(milliseconds) * _MILLISECOND, named
