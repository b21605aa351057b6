"""Contacts on the wire: how I am reached, and what I decline."""

from datetime import datetime, time
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.numbers import OneTimeCode
from schemas.wire import Body, Instant, View
from service.addresses import LONGEST, InvalidAddress, mask_email, parse_email
from service.announcements import OptionalKind
from service.contacts import CodeAsked, Contacts
from service.holders import Holder
from service.locale import Locale
from service.masking import mask_mobile
from service.message_policies import QuietHours


def _address(value: Any) -> str:  # noqa: ANN401  it comes from the wire and may be anything
    if not isinstance(value, str):
        raise PydanticCustomError("yika.wrong_type", "wrong type")
    if len(value) > LONGEST:
        raise PydanticCustomError("yika.too_long", "too long")
    try:
        return parse_email(value)
    except InvalidAddress:
        raise PydanticCustomError("yika.email_format", "not such an address") from None


_Email = Annotated[
    str,
    PlainValidator(_address),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": LONGEST,
            "examples": ["zhang.wei@example.com"],
            "description": "An email address of plain ASCII; it is kept in small letters.",
        }
    ),
]
_Declined = Annotated[
    list[OptionalKind],
    Field(max_length=2, description="service: what counters and offices did; information: how far things are."),
]
_Language = Annotated[
    Locale | None,
    Field(description="The language of all messages; null: the one in which it happened."),
]


class EmailToConfirm(Body):
    """Where to send a code."""

    email: _Email


class EmailCode(Body):
    """The code that was sent there."""

    code: OneTimeCode


class ContactPreferences(Body):
    """What not to send, on each way, and in which language to say the rest. What is said here takes the place of it all.

    Messages of kind `security` cannot be declined, nor can decisions about somebody.
    """

    sms_opt_out: _Declined
    email_opt_out: _Declined
    locale: _Language = None


class EmailCodeView(View):
    """A code is on its way; until it has come back, the address that was confirmed before stays."""

    email_masked: str
    expires_at: Instant
    resend_at: Instant


class PendingEmailView(View):
    """An address that waits for its code."""

    email_masked: str
    expires_at: Instant


class QuietHoursView(View):
    """From when to when, at +08:00, messages wait that can wait; over midnight when it ends before it begins."""

    begins: str
    ends: str


class ContactsView(View):
    """How I am reached. `quietHours` are those of my region of insurance; null where it has none."""

    mobile_masked: str | None
    email_masked: str | None
    email_confirmed_at: Instant | None
    pending_email: PendingEmailView | None
    sms_opt_out: list[Literal["service", "information"]]
    email_opt_out: list[Literal["service", "information"]]
    locale: Locale | None
    quiet_hours: QuietHoursView | None


def email_code_view(asked: CodeAsked) -> EmailCodeView:
    return EmailCodeView(email_masked=mask_email(asked.email), expires_at=asked.expires_at, resend_at=asked.resend_at)


def contacts_view(holder: Holder, contacts: Contacts, quiet: QuietHours | None, now: datetime) -> ContactsView:
    reach = contacts.reach
    pending = contacts.pending if contacts.pending and contacts.pending.expires_at > now else None
    return ContactsView(
        mobile_masked=mask_mobile(holder.mobile) if holder.mobile else None,
        email_masked=mask_email(reach.email) if reach.email else None,
        email_confirmed_at=contacts.confirmed_at,
        pending_email=PendingEmailView(email_masked=mask_email(pending.email), expires_at=pending.expires_at)
        if pending
        else None,
        sms_opt_out=sorted(reach.sms_declined),
        email_opt_out=sorted(reach.email_declined),
        locale=reach.locale,
        quiet_hours=QuietHoursView(begins=_shown(quiet.begins), ends=_shown(quiet.ends)) if quiet else None,
    )


def _shown(at: time) -> str:
    return at.isoformat("minutes")
