"""The hotline on the wire: a code for a caller."""

from typing import Annotated

from pydantic import Field
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from schemas.numbers import IdNumber
from schemas.wire import Body, Instant, View
from service.hotline import CodeSent
from service.numbers import is_personal_number


def _impersonal(ticket: str) -> str:
    """A ticket is kept in plain, so no number of a person's may be one."""
    if is_personal_number(ticket):
        raise PydanticCustomError("yika.personal_number", "somebody's number")
    return ticket


CallTicket = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", description="The call, as the hotline numbers it."),
    AfterValidator(_impersonal),
]


class HotlineCodeRequest(Body):
    """Who calls, and in which call."""

    id_number: IdNumber
    ticket: CallTicket


class HotlineCodeView(View):
    """When the code ends, and when another may be sent; whether one was sent to anybody is not told."""

    expires_at: Instant
    resend_at: Instant


def hotline_code_view(sent: CodeSent) -> HotlineCodeView:
    return HotlineCodeView(expires_at=sent.expires_at, resend_at=sent.resend_at)
