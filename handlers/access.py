"""Who may: every route names one of these, and none is served without.

True here: a bearer token is verified, then its session is looked at, on every request, and for an operator's session the
operator too. Never here: a fallback for a missing header, a token from a query or a cookie.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

from handlers.services import Services
from service.actors import COUNTERS, StaffRole
from service.errors import Kind, Refusal
from service.operators import Operator
from service.pages import VERIFY_PAGE
from service.sessions import Session
from service.tokens import Claims

_LONGEST: Final = 4096


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    # Anybody, but some of what is behind it asks for a session by itself.
    EITHER = "either"
    HOLDER = "holder"
    # The operators whose roles the row names.
    STAFF = "staff"
    # Whoever is signed in, resident or operator.
    SIGNED_IN = "signedIn"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is signed in. `operator`: who it is behind a counter; None for a resident."""

    session: Session
    operator: Operator | None


def _naming_page(refusal: Refusal) -> Refusal:
    """The same refusal; one for who is not signed in names the page on which residents verify who they are."""
    if refusal.kind is not Kind.UNAUTHENTICATED:
        return refusal
    return Refusal(refusal.code, {**refusal.facts, "verifyPage": VERIFY_PAGE})


def _verified(request: web.BaseRequest, services: Services, now: datetime) -> Claims:
    """What the request's token says. Refuses with `unauthenticated` (no token), `token_invalid` or `token_expired`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refusal("unauthenticated")
    if len(token) > _LONGEST:
        raise Refusal("token_invalid")
    return services.tokens.verify(token.strip(), now)


def bearer(request: web.BaseRequest, services: Services, now: datetime) -> Claims:
    """What the request's token says, verified. Its session is still to be looked at.

    Refuses with `unauthenticated` (no token), `token_invalid` or `token_expired`, each naming `verifyPage`.
    """
    try:
        return _verified(request, services, now)
    except Refusal as refusal:
        raise _naming_page(refusal) from None


async def live_session(looked_up: Awaitable[Session | None], claims: Claims, services: Services, now: datetime) -> Session:
    """The resident's session, when it is alive.

    Refuses with `token_revoked`, `token_expired` or `token_invalid`, each naming `verifyPage`; with `forbidden` for who is
    not a resident.
    """
    try:
        session = services.sessions.judge(await looked_up, claims, now)
    except Refusal as refusal:
        raise _naming_page(refusal) from None
    if session.role != "holder":
        raise Refusal("forbidden")
    return session


async def holder_session(request: web.BaseRequest, services: Services) -> Session:
    """The resident's live session. Refuses like `bearer` and `live_session`."""
    now = services.clock.now()
    claims = bearer(request, services, now)
    return await live_session(services.sessions.look_up(claims), claims, services, now)


async def _caller(request: web.BaseRequest, services: Services) -> Caller:
    now = services.clock.now()
    claims = _verified(request, services, now)
    session = services.sessions.judge(await services.sessions.look_up(claims), claims, now)
    return Caller(session, None if session.role == "holder" else await services.operators.on_duty(session))


async def signed_in(request: web.BaseRequest, services: Services) -> Caller:
    """Whoever asks, resident or operator. Refuses like `staff_caller` does whom it does not know, but naming `verifyPage`."""
    try:
        return await _caller(request, services)
    except Refusal as refusal:
        raise _naming_page(refusal) from None


async def staff_caller(request: web.BaseRequest, services: Services, roles: Sequence[StaffRole]) -> Caller:
    """The operator who asks, when the role is one of these.

    Refuses with `unauthenticated`, `token_invalid`, `token_expired`, or `token_revoked` (also for one who was disabled since),
    naming no page, because there is none for operators; with `forbidden` for a resident; with `channel_not_allowed` and the
    channels of these roles for another role.
    """
    caller = await _caller(request, services)
    if caller.operator is None:
        raise Refusal("forbidden")
    if caller.operator.role not in roles:
        raise Refusal("channel_not_allowed", {"channels": sorted({COUNTERS[role] for role in roles if role in COUNTERS})})
    return caller


def address(request: web.BaseRequest, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """The client's network address. X-Forwarded-For is believed only from these proxies, hop by hop from the right."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    here = str(peer[0]) if peer else ""
    hops = [hop.strip() for header in request.headers.getall("X-Forwarded-For", []) for hop in header.split(",")]
    while hops and (parsed := _parsed(here)) and any(parsed in network for network in proxies):
        hop = hops.pop()
        if _parsed(hop) is None:
            # Not an address: whoever wrote it, what is known ends here.
            break
        here = hop
    return _subject(here)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also with the port that some proxies write behind it."""
    bare = text[1:].partition("]")[0] if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return ip_address(bare)
    except ValueError:
        return None


def _subject(text: str) -> str:
    """What a limit counts: an IPv4 address, or the /64 that one subscriber of IPv6 has to themselves."""
    parsed = _parsed(text)
    if parsed is None:
        return text
    if parsed.version == 4:  # noqa: PLR2004  the protocol's own number
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
