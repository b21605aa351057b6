"""The holder's own data over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Final

from handlers.cursors import cursor, place
from handlers.endpoints import Call
from schemas.holders import AccessPage, MeView, Reveal, RevealedView, access_view, me_view, revealed_view
from service.errors import invalid
from service.ids import is_id

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


async def show_me(call: Call[None]) -> MeView:
    """Who I am, masked."""
    holder = await call.services.holders.me(call.holder_id)
    region = call.services.regions.get(holder.region_code)
    return me_view(holder, region.name(call.locale), call.session)


async def reveal(call: Call[Reveal]) -> RevealedView:
    """Show me some of my own data in plain. Written down before it is shown."""
    values = await call.services.holders.reveal(call.session, call.body.fields, call.now)
    return revealed_view(values)


async def list_accesses(call: Call[None]) -> AccessPage:
    """Who looked at my data, newest first."""
    entries, following = await call.services.holders.access_log(call.holder_id, _place(call.query.cursor), call.query.limit)
    text = f"{(following[0] - _EPOCH) // _MILLISECOND}.{following[1]}" if following else None
    return AccessPage(items=[access_view(entry) for entry in entries], next_cursor=cursor(text), has_more=following is not None)


def _place(given: str | None) -> tuple[datetime, str] | None:
    """The moment and id that a cursor stands for. Refuses with `invalid_request` for one we never gave."""
    text = place(given)
    if text is None:
        return None
    milliseconds, _, access_id = text.partition(".")
    if not milliseconds.isdigit() or len(milliseconds) > 14 or not is_id("acc", access_id):  # noqa: PLR2004  year 5138
        raise invalid("cursor", "invalid")
    return _EPOCH + int(milliseconds) * _MILLISECOND, access_id
