"""Sessions and tokens on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.wire import Body, Instant, View
from service.ids import SessionId
from service.sessions import Assurance, Grant, Method, Session, StaffMethod


class Refresh(Body):
    """The refresh token of the moment; it works once."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=512, examples=["rt_ses_….1.…"])]


class AssuranceView(View):
    """How surely we know who this is: 1 password or bound login, 2 sms (an operator: password and totp), 3 face."""

    level: Literal[1, 2, 3]
    method: Literal[Method, StaffMethod]


class TokensView(View):
    """Tokens for a session; lives are in seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    session_id: str
    assurance: AssuranceView


class SessionView(View):
    """One sign-in. `current` marks the one that asks."""

    session_id: str
    created_at: Instant
    refreshed_at: Instant
    expires_at: Instant
    assurance: AssuranceView
    current: bool


class SessionPage(View):
    """The sessions that are alive."""

    items: list[SessionView]
    next_cursor: str | None
    has_more: bool


class JwksView(View):
    """The published keys (RFC 7517): for access tokens, and for receipts also those that have retired."""

    keys: list[dict[str, str]]


def assurance_view(assurance: Assurance) -> AssuranceView:
    return AssuranceView(level=assurance.level, method=assurance.method)


def tokens_view(grant: Grant) -> TokensView:
    return TokensView(
        access_token=grant.access_token,
        token_type="Bearer",  # noqa: S106  the scheme's name
        expires_in=grant.expires_in,
        refresh_token=grant.refresh_token,
        refresh_expires_in=grant.refresh_expires_in,
        session_id=grant.session.session_id,
        assurance=assurance_view(grant.session.assurance),
    )


def session_view(session: Session, current: SessionId) -> SessionView:
    return SessionView(
        session_id=session.session_id,
        created_at=session.created_at,
        refreshed_at=session.refreshed_at,
        expires_at=min(session.idle_until, session.expires_at),
        assurance=assurance_view(session.assurance),
        current=session.session_id == current,
    )
