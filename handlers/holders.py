"""The holder's own data over HTTP."""

from datetime import UTC, datetime

from handlers.cursors import cursor, place
from handlers.endpoints import Call
from schemas.holders import AccessPage, MeView, Reveal, RevealedView, access_view, me_view, revealed_view
from service.errors import invalid


async def show_me(call: Call[None]) -> MeView:
    """Who I am, masked."""
    holder = await call.services.holders.me(call.session.holder_id)
    region = call.services.regions.get(holder.region_code)
    return me_view(holder, region.name(call.locale), call.session)


async def reveal(call: Call[Reveal]) -> RevealedView:
    """Show me some of my own data in plain. Written down before it is shown."""
    values = await call.services.holders.reveal(call.session, call.body.fields, call.services.clock.now())
    return revealed_view(values)


async def list_accesses(call: Call[None]) -> AccessPage:
    """Who looked at my data, newest first."""
    text = place(call.query.cursor)
    try:
        before = datetime.fromtimestamp(int(text) / 1000, UTC) if text else None
    except (ValueError, OverflowError, OSError):
        raise invalid("cursor", "invalid") from None
    entries, following = await call.services.holders.access_log(call.session.holder_id, before, call.query.limit)
    following_text = str(int(following.timestamp() * 1000)) if following else None
    return AccessPage(
        items=[access_view(entry) for entry in entries],
        next_cursor=cursor(following_text),
        has_more=following is not None,
    )
