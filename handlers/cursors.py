"""Cursors: where the next page of a list begins. Opaque to clients, so that what is behind them may change."""

import base64
import binascii

from service.errors import invalid


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
