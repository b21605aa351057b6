"""Sessions: one document a session, which is also the family of its refresh tokens.

True here: a session is looked at on every request, so an end is an end everywhere from the next request on; a refresh token
is a generation of its session and works once; an older generation that comes back means theft and ends the family. A session
is a resident's or an operator's for good: its role says whose, and how long it lives. Never here: a token in storage. A
refresh token is session, generation and a keyed code over both, so a stolen database forges none.
"""

import hmac
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol

from service.actors import Role, StaffRole
from service.announcements import Topic
from service.clock import Clock
from service.errors import Refusal
from service.ids import HolderId, OperatorId, SessionId, is_id, new_id
from service.locale import DEFAULT_LOCALE, Locale
from service.tokens import Claims, Tokens
from service.vault import Vault

# How a resident proves who they are; an operator does it with a password and an authenticator.
Method = Literal["password", "sms", "face"]
StaffMethod = Literal["totp"]
Level = Literal[1, 2, 3]

LEVELS: Final[dict[Method, Level]] = {"password": 1, "sms": 2, "face": 3}
# Some things ask for somebody who proved who they are just now, not for whoever holds the phone an hour later.
FRESH: Final = timedelta(minutes=10)


class Assurance(NamedTuple):
    """How surely we know who this is: 1 password or bound login, 2 sms, 3 face."""

    level: Level
    method: Method | StaffMethod


# Something known and something owned: as sure as a password with a code by SMS, and nobody's face was seen.
STAFF_ASSURANCE: Final = Assurance(2, "totp")


@dataclass(frozen=True, slots=True)
class Life:
    """How long a session lives without a refresh, and at most."""

    idle: timedelta
    longest: timedelta


RESIDENT_LIFE: Final = Life(timedelta(hours=1), timedelta(hours=24))
STAFF_LIFE: Final = Life(timedelta(minutes=15), timedelta(hours=12))


def life_of(role: Role) -> Life:
    """How long sessions of a role live."""
    return RESIDENT_LIFE if role == "holder" else STAFF_LIFE


# Made on every look-up, so a named tuple: it takes a third of the time of a frozen dataclass.
class Session(NamedTuple):
    """Somebody signed in on one device: `subject` is a holder when the role is `holder`, else an operator."""

    session_id: SessionId
    subject: str
    role: Role
    assurance: Assurance
    created_at: datetime
    refreshed_at: datetime
    idle_until: datetime
    expires_at: datetime
    generation: int
    ended_at: datetime | None

    @property
    def holder_id(self) -> HolderId:
        """The resident; only what serves residents alone asks."""
        if self.role != "holder":
            raise AssertionError("an operator is no holder")
        return HolderId(self.subject)


def require_assurance(session: Session, level: Level, now: datetime, *, fresh: bool = False) -> None:
    """Refuses with `assurance_too_low` and `requiredAssurance` when it is not known surely enough who this is.

    `fresh`: also when the person was verified longer ago than FRESH, with reason `notFresh`.
    """
    if session.assurance.level < level:
        raise Refusal("assurance_too_low", {"requiredAssurance": level})
    if fresh and now - session.created_at > FRESH:
        raise Refusal("assurance_too_low", {"requiredAssurance": level, "reason": "notFresh"})


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens for a session, with their lives in seconds."""

    session: Session
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class News:
    """What a resident is to hear of a session that begins. `device`: a keyed code of what it was opened on, if that is new."""

    topic: Topic
    device: bytes | None


class SessionStore(Protocol):
    """Where sessions are kept."""

    def session(self, session_id: SessionId) -> Awaitable[Session | None]:
        """A session, as strongly read as the last acknowledged write before the call."""

    async def add(self, session: Session, locale: Locale, news: News | None) -> None:
        """Keep a new session, with what its holder is to hear of it and in which language; returns when it is safe."""

    async def advance(self, session_id: SessionId, generation: int, now: datetime, idle_until: datetime) -> Session | None:
        """Move a live session from this generation to the next, once; None when it is not at this generation or over."""

    async def end(self, session_id: SessionId, now: datetime, reason: str, tell: Topic | None = None) -> None:
        """End a session, with what its holder is to hear of that; ending it again changes nothing."""

    async def end_all_of(self, operator_id: OperatorId, now: datetime, reason: str) -> None:
        """End every session of an operator."""

    async def live_of(self, holder_id: HolderId, now: datetime, after: str | None, limit: int) -> list[Session]:
        """Sessions of a person that are not over, in order of id."""


class Sessions:
    """Signing in, staying signed in, signing out."""

    def __init__(self, store: SessionStore, tokens: Tokens, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._tokens = tokens
        self._vault = vault
        self._clock = clock

    async def open(
        self, holder_id: HolderId, method: Method, locale: Locale = DEFAULT_LOCALE, news: News | None = None
    ) -> Grant:
        """Start a session for a resident who was just verified, with what they are to hear of it and in which language."""
        return await self._open(holder_id, "holder", Assurance(LEVELS[method], method), locale, news)

    async def open_staff(self, operator_id: OperatorId, role: StaffRole) -> Grant:
        """Start a session for an operator who just signed in."""
        return await self._open(operator_id, role, STAFF_ASSURANCE, DEFAULT_LOCALE, None)

    async def _open(self, subject: str, role: Role, assurance: Assurance, locale: Locale, news: News | None) -> Grant:
        now, life = self._clock.now(), life_of(role)
        session = Session(
            session_id=SessionId(new_id("ses")),
            subject=subject,
            role=role,
            assurance=assurance,
            created_at=now,
            refreshed_at=now,
            idle_until=now + life.idle,
            expires_at=now + life.longest,
            generation=1,
            ended_at=None,
        )
        await self._store.add(session, locale, news)
        return self._grant(session, now)

    def look_up(self, claims: Claims) -> Awaitable[Session | None]:
        """Begin to read a token's session now, to `judge` it when it is there: others may be read beside it."""
        return self._store.session(SessionId(claims.session_id))

    def judge(self, session: Session | None, claims: Claims, now: datetime) -> Session:
        """The live session of a verified token.

        Refuses with `token_revoked`, with `token_expired` when it ran out, or with `token_invalid` for a token that says
        another subject or role.
        """
        return self._alive(session, now, claims)

    @staticmethod
    def _alive(session: Session | None, now: datetime, claims: Claims | None) -> Session:
        if session is None or session.ended_at is not None:
            raise Refusal("token_revoked")
        if claims is not None and (session.subject != claims.subject or session.role != claims.role):
            raise Refusal("token_invalid")
        if session.expires_at <= now or session.idle_until <= now:
            raise Refusal("token_expired")
        return session

    async def refresh(self, refresh_token: str) -> Grant:
        """The next generation of tokens.

        Refuses with `token_invalid` (not ours), `token_expired`, or `token_revoked`: the session was over, or this token was
        used before, which ends the session.
        """
        session_id, generation = self._parse(refresh_token)
        now = self._clock.now()
        known = self._alive(await self._store.session(session_id), now, None)
        session = await self._store.advance(session_id, generation, now, now + life_of(known.role).idle)
        if session is not None:
            return self._grant(session, now)
        found = self._alive(await self._store.session(session_id), now, None)
        if found.generation > generation:
            # An operator's institution finds it in the log; a resident hears of it.
            tell = Topic.REFRESH_TOKEN_REUSED if found.role == "holder" else None
            await self._store.end(session_id, now, "refreshTokenReused", tell)
        raise Refusal("token_revoked")

    async def logout(self, session: Session) -> None:
        """End this session."""
        await self._store.end(session.session_id, self._clock.now(), "logout")

    async def revoke(self, holder_id: HolderId, session_id: str) -> None:
        """End one of the person's sessions. Refuses with `not_found`, also for somebody else's."""
        found = await self._store.session(SessionId(session_id)) if is_id("ses", session_id) else None
        if found is None or found.subject != holder_id:
            raise Refusal("not_found")
        await self._store.end(found.session_id, self._clock.now(), "revoked")

    async def list_mine(self, holder_id: HolderId, after: str | None, limit: int) -> tuple[list[Session], str | None]:
        """A page of the person's live sessions, and where the next begins."""
        sessions = await self._store.live_of(holder_id, self._clock.now(), after, limit + 1)
        page = sessions[:limit]
        return page, page[-1].session_id if len(sessions) > limit else None

    def _grant(self, session: Session, now: datetime) -> Grant:
        token, seconds = self._tokens.issue(
            Claims(session.subject, session.session_id, session.role, session.assurance.level),
            method=session.assurance.method,
            now=now,
            until=session.expires_at,
        )
        left = min(session.idle_until, session.expires_at) - now
        return Grant(session, token, seconds, self._refresh_token(session), int(left.total_seconds()))

    def _refresh_token(self, session: Session) -> str:
        code = self._vault.mac("refresh", session.session_id, str(session.generation)).hex()
        return f"rt_{session.session_id}.{session.generation}.{code}"

    def _parse(self, refresh_token: str) -> tuple[SessionId, int]:
        session_id, _, rest = refresh_token.removeprefix("rt_").partition(".")
        generation, _, code = rest.partition(".")
        genuine = self._vault.mac("refresh", session_id, generation).hex()
        if not is_id("ses", session_id) or not hmac.compare_digest(code.encode(), genuine.encode()):
            raise Refusal("token_invalid")
        return SessionId(session_id), int(generation)
