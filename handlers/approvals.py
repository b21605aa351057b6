"""Approvals over HTTP: the list, and the second person's word."""

from typing import Any

from handlers.cursors import moment_cursor, moment_place
from handlers.endpoints import Call, Reply
from schemas.approvals import ApprovalPage, ApprovalView, Verdict, approval_view
from service.approvals import Approval, Decision


async def list_approvals(call: Call[None]) -> ApprovalPage:
    """What waits for a second person in my regions, or did, newest first."""
    query = call.query
    after = moment_place(query.cursor, "apr")
    page, following = await call.services.approvals.listed(call.operator, query.state, after, query.limit)
    items = [approval_view(approval, call.locale, call.now) for approval in page]
    return ApprovalPage(items=items, next_cursor=moment_cursor(following), has_more=following is not None)


async def approve(call: Call[Verdict]) -> ApprovalView:
    """Approve what somebody else has asked for; it is done at once. Never one's own."""
    return await _decided(call, "approved")


async def reject(call: Call[Verdict]) -> ApprovalView:
    """Reject what somebody else has asked for; nothing changes on the card."""
    return await _decided(call, "rejected")


async def _decided(call: Call[Verdict], decision: Decision) -> ApprovalView:
    approvals, approval_id = call.services.approvals, call.path("approval_id")
    approval = await approvals.decide(call.operator, approval_id, decision, call.body.reason, call.mark)
    call.services.relay.wake()
    return approval_view(approval, call.locale, call.services.clock.now())


def accepted(call: Call[Any], approval: Approval) -> Reply:
    """The answer to who asked."""
    return Reply(approval_view(approval, call.locale, call.services.clock.now()), status=202)
