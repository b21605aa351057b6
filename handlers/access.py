"""Who may: every route names one of these, and none is served without.

True here: a bearer token is verified, then its session is looked at, on every request. Never here: a fallback for a missing
header, a token from a query or a cookie.
"""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

from handlers.services import Services
from service.errors import Refusal
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


def _unauthenticated(refusal: Refusal) -> Refusal:
    """The same refusal, naming the page on which one verifies who one is."""
    return Refusal(refusal.code, {**refusal.facts, "verifyPage": VERIFY_PAGE})


def bearer(request: web.BaseRequest, services: Services, now: datetime) -> Claims:
    """What the request's token says, verified. Its session is still to be looked at.

    Refuses with `unauthenticated` (no token), `token_invalid` or `token_expired`, each naming `verifyPage`.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unauthenticated(Refusal("unauthenticated"))
    if len(token) > _LONGEST:
        raise _unauthenticated(Refusal("token_invalid"))
    try:
        return services.tokens.verify(token.strip(), now)
    except Refusal as refusal:
        raise _unauthenticated(refusal) from None


async def live_session(looked_up: Awaitable[Session | None], claims: Claims, services: Services, now: datetime) -> Session:
    """The resident's session, when it is alive.

    Refuses with `token_revoked` or `token_expired`, each naming `verifyPage`; with `forbidden` for who is not a resident.
    """
    try:
        session = services.sessions.judge(await looked_up, claims, now)
    except Refusal as refusal:
        if refusal.code.startswith("token_"):
            raise _unauthenticated(refusal) from None
        raise
    if claims.role != "holder":
        raise Refusal("forbidden")
    return session


async def holder_session(request: web.BaseRequest, services: Services) -> Session:
    """The live session of whoever asks. Refuses like `bearer` and `live_session`."""
    now = services.clock.now()
    claims = bearer(request, services, now)
    return await live_session(services.sessions.look_up(claims), claims, services, now)


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
