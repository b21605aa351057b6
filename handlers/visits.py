"""Visits to designated hospitals, over HTTP."""

from handlers.endpoints import Call
from schemas.visits import VisitReport, VisitView, visit_view


async def record_visit(call: Call[VisitReport]) -> VisitView:
    """Record a visit. The first one with a card that was never activated activates its social function."""
    body = call.body
    visited = await call.services.visits.record(call.operator, body.given(), body.kind, call.mark, call.locale)
    call.services.relay.wake()
    view = visit_view(visited, call.locale)
    call.request.outcome = view.result
    return view
