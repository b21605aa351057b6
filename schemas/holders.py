"""The holder's own data on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.sessions import AssuranceView, assurance_view
from schemas.wire import Body, Instant, View
from service.holders import Access, Holder, RevealField
from service.masking import mask_id_number, mask_mobile, mask_name
from service.sessions import Session


class MeView(View):
    """Who I am, masked."""

    name_masked: str
    id_number_masked: str
    mobile_masked: str
    region_code: str
    region_name: str
    session_id: str
    assurance: AssuranceView


class Reveal(Body):
    """What to see in plain."""

    fields: Annotated[list[Literal["name", "idNumber", "mobile"]], Field(min_length=1, max_length=3)]


class RevealedView(View):
    """What was asked for, in plain; null for what was not."""

    name: str | None
    id_number: str | None
    mobile: str | None


class AccessView(View):
    """One look at, or change of, my data. `reason` names the fields, or why somebody looked; `ticket` the call it was in."""

    at: Instant
    action: str
    by: str
    channel: str
    reason: str | None
    ticket: str | None


class AccessPage(View):
    """Who looked at my data, newest first."""

    items: list[AccessView]
    next_cursor: str | None
    has_more: bool


def me_view(holder: Holder, region_name: str, session: Session) -> MeView:
    return MeView(
        name_masked=mask_name(holder.name),
        id_number_masked=mask_id_number(holder.id_number),
        mobile_masked=mask_mobile(holder.mobile),
        region_code=holder.region_code,
        region_name=region_name,
        session_id=session.session_id,
        assurance=assurance_view(session.assurance),
    )


def revealed_view(values: dict[RevealField, str]) -> RevealedView:
    return RevealedView(name=values.get("name"), id_number=values.get("idNumber"), mobile=values.get("mobile"))


def access_view(access: Access) -> AccessView:
    return AccessView(
        at=access.at,
        action=access.action,
        by=access.by,
        channel=access.channel,
        reason=access.reason,
        ticket=access.ticket,
    )
