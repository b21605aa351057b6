"""Receipts on the wire."""

from typing import Annotated

from pydantic import Field

from schemas.wire import Body, Instant, PageQuery, View
from service.receipts import Receipt
from service.regions import Channel


class ReceiptCheck(Body):
    """A receipt as it was given out."""

    receipt: Annotated[str, Field(min_length=1, max_length=4096)]


class ReceiptView(View):
    """Whether a receipt is ours and unchanged, and then what it says."""

    valid: bool
    claims: dict[str, str | int] | None


class ReceiptsQuery(PageQuery):
    """Which page of receipts, of one card where one is named."""

    card_id: Annotated[str | None, Field(max_length=64)] = None


class IssuedReceiptView(View):
    """Something that was done to a card, with its receipt."""

    receipt_id: str
    event: str
    card_id: str
    channel: Channel
    at: Instant
    receipt: str


class ReceiptPage(View):
    """My receipts, newest first."""

    items: list[IssuedReceiptView]
    next_cursor: str | None
    has_more: bool


def receipt_view(receipt: Receipt) -> IssuedReceiptView:
    deed = receipt.deed
    return IssuedReceiptView(
        receipt_id=deed.receipt_id,
        event=deed.event,
        card_id=deed.card_id,
        channel=deed.channel,
        at=deed.at,
        receipt=receipt.text,
    )
