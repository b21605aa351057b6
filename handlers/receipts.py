"""Receipts over HTTP."""

from handlers.cursors import moment_cursor, moment_place
from handlers.endpoints import Call
from schemas.receipts import IssuedReceiptView, ReceiptCheck, ReceiptPage, ReceiptView, receipt_view


async def list_receipts(call: Call[None]) -> ReceiptPage:
    """My receipts, newest first: for my cards, and for what I did as somebody's guardian."""
    after = moment_place(call.query.cursor, "rcp")
    receipts, following = await call.services.receipts.mine(call.holder_id, call.query.card_id, after, call.query.limit)
    items = [receipt_view(receipt) for receipt in receipts]
    return ReceiptPage(items=items, next_cursor=moment_cursor(following), has_more=following is not None)


async def show_receipt(call: Call[None]) -> IssuedReceiptView:
    """One of my receipts, signed anew; it says the same each time."""
    return receipt_view(await call.services.receipts.one(call.holder_id, call.path("receipt_id")))


async def verify_receipt(call: Call[ReceiptCheck]) -> ReceiptView:
    """Whether a receipt is ours and unchanged. Anybody can do the same offline with the published keys."""
    claims = call.services.receipts.verify(call.body.receipt)
    return ReceiptView(valid=claims is not None, claims=claims)
