"""Dependants over HTTP: linking, the list, ending a link."""

from handlers.cursors import cursor, place
from handlers.endpoints import Call
from schemas.dependants import DependantLink, DependantPage, DependantView, dependant_view
from schemas.wire import Empty


async def link_dependant(call: Call[DependantLink]) -> DependantView:
    """Link a minor of my household register, to act for them. Linking again says the same and changes nothing."""
    dependants = call.services.dependants
    household = call.body.household()
    linked = await dependants.link(call.holder_id, household, request=call.mark, now=call.now, locale=call.locale)
    call.services.relay.wake()
    return dependant_view(linked)


async def list_dependants(call: Call[None]) -> DependantPage:
    """Whom I may act for."""
    given = place(call.query.cursor)
    linked, following = await call.services.dependants.mine(call.holder_id, given, call.query.limit, call.now)
    items = [dependant_view(one) for one in linked]
    return DependantPage(items=items, next_cursor=cursor(following), has_more=following is not None)


async def end_dependant_link(call: Call[None]) -> Empty:
    """End a link of mine. Ending it again says the same and changes nothing."""
    ended, dependants = call.path("dependant_id"), call.services.dependants
    await dependants.end(call.holder_id, ended, request=call.mark, now=call.now, locale=call.locale)
    call.services.relay.wake()
    return Empty()
