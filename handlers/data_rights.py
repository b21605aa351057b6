"""A holder's rights in their data, over HTTP: the copy, and erasure."""

from handlers.cursors import moment_cursor
from handlers.endpoints import Call
from schemas.data_rights import ErasureView, ExportView, erasure_view, export_view
from schemas.holders import AccessPage, access_view


async def export_my_data(call: Call[None]) -> ExportView:
    """A copy of everything that is kept about me, in plain. Written down, and told to me, before it is shown."""
    export = await call.services.exports.make(call.holder_id, locale=call.locale, now=call.now)
    accesses = AccessPage(
        items=[access_view(entry) for entry in export.accesses],
        next_cursor=moment_cursor(export.following),
        has_more=export.following is not None,
    )
    return export_view(export, accesses)


async def erase_my_data(call: Call[None]) -> ErasureView:
    """Have everything about me erased that no law has kept. It cannot be undone, and ends every session of mine."""
    erasure = await call.services.erasures.ask(call.holder_id, request=call.mark, locale=call.locale, now=call.now)
    call.services.relay.wake()
    return erasure_view(erasure)
