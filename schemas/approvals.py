"""Approvals on the wire: what waits for a second person, and what became of it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.staff_cards import Remark
from schemas.wire import EmptyBody, Instant, PageQuery, View
from service.actors import StaffRole
from service.approvals import Approval, Kind, Party, State
from service.locale import Locale
from service.masking import mask_name


class ApprovalsQuery(PageQuery):
    """Which page of which approvals; of all when no state is named."""

    state: Annotated[State | None, Field()] = None


class Verdict(EmptyBody):
    """Why, if there is anything to say."""

    reason: Remark | None = None


class PartyView(View):
    """An operator who asked or decided, the name masked."""

    role: StaffRole
    institution_id: str
    institution_name: str
    name_masked: str


class ApprovalView(View):
    """Something that takes a second person.

    `approved` is the decision; `carriedOutAt` says when the card was changed, and is null until then. `failed` means that the
    card allows it no more, and `failure` why.
    """

    approval_id: str
    kind: Kind
    card_id: str
    region_code: str
    state: State
    reason: str | None
    asked_at: Instant
    asked_by: PartyView
    expires_at: Instant
    decided_at: Instant | None
    decided_by: PartyView | None
    decision_reason: str | None
    carried_out_at: Instant | None
    failure: str | None


class ApprovalPage(View):
    """Approvals, newest first."""

    items: list[ApprovalView]
    next_cursor: str | None
    has_more: bool


def _party_view(party: Party, locale: Locale) -> PartyView:
    return PartyView(
        role=party.role,
        institution_id=party.institution_id,
        institution_name=party.institution_names.read_in(locale),
        name_masked=mask_name(party.name),
    )


def approval_view(approval: Approval, locale: Locale, now: datetime) -> ApprovalView:
    decided = approval.decided
    return ApprovalView(
        approval_id=approval.approval_id,
        kind=approval.kind,
        card_id=approval.card_id,
        region_code=approval.region_code,
        state=approval.state(now),
        reason=approval.reason,
        asked_at=approval.asked_at,
        asked_by=_party_view(approval.asked_by, locale),
        expires_at=approval.expires_at,
        decided_at=decided.at if decided else None,
        decided_by=_party_view(decided.by, locale) if decided else None,
        decision_reason=decided.note if decided else None,
        carried_out_at=approval.carried_out_at,
        failure=approval.failure,
    )
