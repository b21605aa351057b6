"""From a row of the table to something that answers: authenticate, read, claim the key, ask, and write down the answer.

True here: the order in which a request is judged is the same for every route: who, how often, what, and only then the use
case. A keyed request gives its first answer again, whatever it was, unless nothing had happened.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from handlers import payload
from handlers.access import Access, address, holder_session
from handlers.problems import problem
from handlers.services import SERVICES, Services
from schemas.wire import EmptyBody, View
from service.errors import Code, Kind, Refusal, invalid
from service.idempotency import Answer, Claim
from service.locale import Locale, negotiate
from service.sessions import Level, Session, require_assurance

REQUEST_ID: Final = web.RequestKey("request_id", str)
CODE: Final = web.RequestKey("code", str)
REPLAYED: Final = "Idempotency-Replayed"
JSON: Final = "application/json"
_LONGEST_KEY: Final = 255

BodyT = TypeVar("BodyT")


@dataclass(frozen=True, slots=True)
class Call(Generic[BodyT]):
    """A request that has been let in: everything a handler needs, parsed once."""

    services: Services
    request: web.Request
    body: BodyT
    query: Any
    caller: Session | None
    locale: Locale
    mark: bytes

    @property
    def session(self) -> Session:
        """The caller's session; only routes for residents ask."""
        if self.caller is None:
            raise AssertionError("a public route has no session")
        return self.caller

    @property
    def address(self) -> str:
        """Where the request comes from, for limits."""
        return address(self.request, self.services.config.trusted_proxies)

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is more than a view: other headers, or bytes that are ready, perhaps of another media type."""

    body: View | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = JSON


Handler = Callable[[Call[Any]], Awaitable[View | Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the API: what is asked, who may, and every way it can be answered.

    `refuses`: the codes of this route's own; those that follow from access, body and key are added where they are needed.
    `paced`: counts as a look-up of the holder. `keyed`: needs an Idempotency-Key. `level`, `fresh`: how surely it must be
    known who asks; judged before the key, so that an earlier answer is not given again to somebody less sure.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    access: Access
    answer: Any
    tag: str
    status: int = 200
    body: Any = EmptyBody
    query: type[BaseModel] | None = None
    keyed: bool = False
    level: Level = 1
    fresh: bool = False
    paced: bool = False
    cached: bool = False
    refuses: tuple[Code, ...] = ()


def endpoint(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a route."""
    body_shape: TypeAdapter[Any] = TypeAdapter(route.body)
    query_shape: TypeAdapter[Any] | None = TypeAdapter(route.query) if route.query else None
    query_names = frozenset(f.alias or name for name, f in (route.query.model_fields if route.query else {}).items())
    optional = route.body is EmptyBody

    async def serve(request: web.Request) -> web.StreamResponse:
        services = request.app[SERVICES]
        clock = asyncio.get_running_loop().time
        seconds = services.config.request_seconds
        async with asyncio.timeout(seconds) as deadline:
            caller = await holder_session(request, services) if route.access is Access.HOLDER else None
            if caller is not None:
                require_assurance(caller, route.level, services.clock.now(), fresh=route.fresh)
                if route.paced:
                    services.queries.hit(caller.holder_id)
            key = _key(request) if route.keyed else ""
            raw = b""
            body: Any = None
            if route.method == "POST":
                # A slow body has a deadline of its own, and what comes after it a full one.
                deadline.reschedule(None)
                raw = await payload.read(request, services.config.body_seconds)
                deadline.reschedule(clock() + seconds)
                body = payload.parse(request, raw, body_shape, optional=optional)
            query = payload.parse_query(request, query_shape, query_names) if query_shape else None
            locale = negotiate(request.headers.get("Accept-Language"))
            call = Call(services, request, body, query, caller, locale, b"")
            if caller is None or not route.keyed:
                return _respond(await route.handler(call), route.status)
            asked = b"\0".join((route.method.encode(), request.path.encode(), payload.canonical(raw)))
            return await _once(call, route, key, asked)

    return serve


async def _once(call: Call[Any], route: Route, key: str, asked: bytes) -> web.StreamResponse:
    """Answer a keyed request: now, or as the first time."""
    keys = call.services.idempotency
    claim = await keys.claim(call.session.holder_id, key, asked)
    if isinstance(claim, Answer):
        if claim.status >= 400:  # noqa: PLR2004  a problem, not an answer
            call.request[CODE] = "replayed"
        return _plain(claim, {REPLAYED: "true"})
    call = Call(call.services, call.request, call.body, call.query, call.caller, call.locale, keys.request_mark(claim))
    try:
        response = _respond(await route.handler(call), route.status)
    except Refusal as refusal:
        await _settle(call, claim, refusal)
        raise
    body = response.body
    await keys.complete(claim, Answer(response.status, JSON, body if isinstance(body, bytes) else b"{}"))
    return response


async def _settle(call: Call[Any], claim: Claim, refusal: Refusal) -> None:
    """Keep a refusal as the answer; free the key after one that says try again; leave the lease where nobody knows."""
    keys = call.services.idempotency
    if not refusal.transient:
        await keys.complete(claim, problem(refusal, call.locale, call.request[REQUEST_ID]))
    elif refusal.kind is not Kind.UNAVAILABLE:
        await keys.release(claim)


def _key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if not key:
        raise Refusal("idempotency_key_missing")
    if len(key) > _LONGEST_KEY or not all("!" <= sign <= "~" for sign in key):
        raise invalid("Idempotency-Key", "pattern")
    return key


def _respond(result: View | Reply, status: int) -> web.Response:
    if isinstance(result, View):
        return _plain(Answer(status, JSON, _bytes(result)), {})
    body = _bytes(result.body) if isinstance(result.body, View) else result.body
    return _plain(Answer(result.status, result.media_type, body), result.headers)


def _bytes(view: View) -> bytes:
    return view.__pydantic_serializer__.to_json(view)


def _plain(answer: Answer, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        headers={"Content-Type": answer.media_type} | headers,
    )
