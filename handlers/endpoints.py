"""From a row of the table to something that answers: authenticate, read, claim the key, ask, and write down the answer.

True here: the order in which a request is judged is the same for every route: who, how often, what, and only then the use
case. A keyed request gives its first answer again, whatever it was, unless nothing had happened.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter

from handlers import payload
from handlers.access import Access, Caller, address, bearer, holder_session, live_session, signed_in, staff_caller
from handlers.answers import JSON, Response
from handlers.metrics import Family
from handlers.outcomes import counted
from handlers.problems import problem
from handlers.services import Services
from handlers.wire import Answering, Request
from schemas.wire import EmptyBody, View
from service.actors import Actor, StaffRole, holder_actor
from service.errors import Code, Kind, Refusal, invalid
from service.idempotency import Answer, Claim
from service.ids import HolderId
from service.locale import Locale, negotiate
from service.operators import Operator
from service.sessions import STAFF_ASSURANCE, Level, Session, require_assurance

REPLAYED: Final = "Idempotency-Replayed"
_LONGEST_KEY: Final = 255
_NOBODY: Final = HolderId("")
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

BodyT = TypeVar("BodyT")


class Call(NamedTuple, Generic[BodyT]):
    """A request that has been let in: everything a handler needs, parsed once.

    `now`: the moment when it was; whoever answers from it is of one time. `holder_id`: the resident whose session it is, or
    nothing. `mark`: names a keyed request.
    """

    services: Services
    request: Request
    body: BodyT
    query: Any
    now: datetime
    holder_id: HolderId
    caller: Caller | None
    mark: bytes = b""

    @property
    def session(self) -> Session:
        """The caller's session; no public route asks, and none that is read beside its session."""
        if self.caller is None:
            raise AssertionError("this route is answered without a session")
        return self.caller.session

    @property
    def operator(self) -> Operator:
        """The operator who asks; only routes for staff do."""
        if self.caller is None or self.caller.operator is None:
            raise AssertionError("this route is not for staff alone")
        return self.caller.operator

    @property
    def actor(self) -> Actor:
        """In what capacity the caller acts: an operator at their counter, or a resident in the app."""
        if self.caller is not None and self.caller.operator is not None:
            return self.caller.operator.actor()
        if not self.holder_id:
            raise AssertionError("this route is answered without a session")
        return holder_actor(self.holder_id, "app")

    @property
    def locale(self) -> Locale:
        """The language of the answer."""
        return negotiate(self.request.headers.get("Accept-Language"))

    @property
    def address(self) -> str:
        """Where the request comes from, for limits."""
        return address(self.request, self.services.config.trusted_proxies)

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.parts[name]


class Reply(NamedTuple):
    """An answer that is more than a view: other headers, or bytes that are ready, perhaps of another media type."""

    body: View | bytes
    status: int = 200
    headers: Mapping[str, str] = _NO_HEADERS
    media_type: str = JSON


Handler = Callable[[Call[Any]], Awaitable[View | Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the API: what is asked, who may, and every way it can be answered.

    `refuses`: the codes of this route's own; those that follow from access, body and key are added where they are needed.
    `roles`: the operators who may, for staff routes and no others. `accepted`: what is answered with 202 in place of `answer`
    where something was only asked for. `paced`: counts as a look-up of the caller. `beside`: only reads, and only what is
    `holder_id`'s, so it may read side by side with the session; it is answered only when the session is good. `keyed`: needs
    an Idempotency-Key. `level`, `fresh`: how surely it must be known who asks; judged before the key, so that an earlier
    answer is not given again to somebody less sure. `reveals`: its answer shows personal data in plain, so the one that is
    kept for a retry goes with the person. `leaves`: what is written into the caller's own log: before it is done
    for a keyed request, else once a session and thing of the path, before it is shown. `media_type`: of an answer that no
    View describes. `counts`: counted by outcome, and by what it is told apart until the handler or the operator's role says
    so (handlers/outcomes.py).
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
    beside: bool = False
    cached: bool = False
    refuses: tuple[Code, ...] = ()
    roles: tuple[StaffRole, ...] = ()
    accepted: Any = None
    reveals: bool = False
    media_type: str = "text/html"
    counts: tuple[Family, str] | None = None
    leaves: str = ""


def may_be_empty(body: object) -> bool:
    """Whether no body at all is as good as `{}`: nothing has to be said there."""
    return isinstance(body, type) and issubclass(body, EmptyBody)


def _check(route: Route) -> None:
    """Raises ValueError for a row whose words exclude each other."""
    if route.beside and (
        route.method != "GET" or route.access is not Access.HOLDER or route.keyed or route.fresh or route.level > 1
    ):
        raise ValueError(f"{route.path} may not be read beside its session")
    if route.leaves and route.access not in {Access.HOLDER, Access.SIGNED_IN}:
        raise ValueError(f"{route.path}: what operators do is written where it is done")
    if (route.access is Access.STAFF) is not bool(route.roles):
        raise ValueError(f"{route.path}: a staff route names the roles that may, and no other route does")
    if route.access is Access.STAFF and route.level > STAFF_ASSURANCE.level:
        raise ValueError(f"{route.path}: no operator is known that surely")


def endpoint(route: Route, services: Services) -> Answering:
    """What answers the requests of a route. Raises ValueError for a row whose words exclude each other."""
    _check(route)
    body_shape: TypeAdapter[Any] = TypeAdapter(route.body)
    query_shape: TypeAdapter[Any] | None = TypeAdapter(route.query) if route.query else None
    query_names = frozenset(f.alias or name for name, f in (route.query.model_fields if route.query else {}).items())
    optional = may_be_empty(route.body)

    async def serve(request: Request) -> Response:
        with services.deadlines(request.task):
            caller = await _admit(request, services, route)
            key = _key(request) if route.keyed else ""
        # A slow body has a deadline of its own, and what comes after it a full one.
        raw = await payload.read(request, services.config.body_seconds) if route.method == "POST" else b""
        with services.deadlines(request.task):
            body = payload.parse(request, raw, body_shape, optional=optional) if route.method == "POST" else None
            query = payload.parse_query(request, query_shape, query_names) if query_shape else None
            holder_id = caller.session.holder_id if caller and caller.operator is None else _NOBODY
            call = Call(services, request, body, query, services.clock.now(), holder_id, caller)
            if caller is None or not route.keyed:
                result = await route.handler(call)
                if route.leaves and holder_id and caller and _is_new(request, services, route, caller.session, query):
                    await _leave(request, services, route, caller.session)
                return _respond(result, route.status)
            asked = b"\0".join((route.method.encode(), request.path.encode(), payload.canonical(raw)))
            return await _once(call, route, key, asked)

    async def beside(request: Request) -> Response:
        with services.deadlines(request.task):
            now = services.clock.now()
            claims = bearer(request, services, now)
            looked_up = services.sessions.look_up(claims)
            answer: View | Reply | None = None
            refusal: Refusal | None = None
            query: Any = None
            try:
                query = payload.parse_query(request, query_shape, query_names) if query_shape else None
                answer = await route.handler(Call(services, request, None, query, now, HolderId(claims.subject), None))
            except Refusal as refused:
                refusal = refused
            # Whatever came of it, who asks is judged first.
            session = await live_session(looked_up, claims, services, now)
            if route.paced:
                services.queries.hit(session.holder_id, now)
            if answer is None:
                raise refusal or AssertionError("a handler answers or refuses")
            if route.leaves and _is_new(request, services, route, session, query):
                await _leave(request, services, route, session)
            return _respond(answer, route.status)

    answering = beside if route.beside else serve
    return answering if route.counts is None else counted(answering, services.metrics, *route.counts)


async def _admit(request: Request, services: Services, route: Route) -> Caller | None:
    """The caller, where the route asks for one: of the right kind, known surely enough, and not too often there."""
    if route.access is Access.HOLDER:
        caller = Caller(await holder_session(request, services), None)
    elif route.access is Access.STAFF:
        caller = await staff_caller(request, services, route.roles)
        if route.counts is not None and caller.operator is not None:
            request.kind = caller.operator.actor().channel or caller.operator.role
    elif route.access is Access.SIGNED_IN:
        caller = await signed_in(request, services)
    else:
        return None
    now = services.clock.now()
    require_assurance(caller.session, route.level, now, fresh=route.fresh)
    if route.paced:
        services.queries.hit(caller.session.subject, now)
    return caller


def _is_new(request: Request, services: Services, route: Route, session: Session, query: object) -> bool:
    """Whether somebody's look at what is theirs is to be written down: it is seldom, so no more than a glance is spent on it.

    A look for a dependant was written where it was judged.
    """
    thing = next(iter(request.parts.values()), "")
    known = services.looks.is_known(session.session_id, route.leaves, thing)
    return not known and getattr(query, "on_behalf_of", None) is None


async def _leave(request: Request, services: Services, route: Route, session: Session) -> None:
    """Write the look down; it is safe before its answer goes out."""
    thing, now = next(iter(request.parts.values()), ""), services.clock.now()
    await services.looks.looked(session.holder_id, session.session_id, route.leaves, thing, now)


async def _once(call: Call[Any], route: Route, key: str, asked: bytes) -> Response:
    """Answer a keyed request: now, or as the first time."""
    keys = call.services.idempotency
    claim = await keys.claim(call.session.subject, key, asked)
    if isinstance(claim, Answer):
        if claim.status >= 400:  # noqa: PLR2004  a problem, not an answer
            call.request.code = "replayed"
        return Response(claim, {REPLAYED: "true"})
    call = call._replace(mark=keys.request_mark(claim))
    try:
        if route.leaves and call.holder_id:
            await call.services.looks.acts(call.holder_id, call.mark, route.leaves, call.now)
        response = _respond(await route.handler(call), route.status)
    except Refusal as refusal:
        await _settle(call, claim, refusal)
        raise
    whose = call.session.subject if route.reveals else None
    await keys.complete(claim, Answer(response.status, JSON, response.body), whose)
    return response


async def _settle(call: Call[Any], claim: Claim, refusal: Refusal) -> None:
    """Keep a refusal as the answer; free the key after one that says try again; leave the lease where nobody knows."""
    keys = call.services.idempotency
    if not refusal.transient:
        await keys.complete(claim, problem(refusal, call.locale, call.request.request_id))
    elif refusal.kind is not Kind.UNAVAILABLE:
        await keys.release(claim)


def _key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if not key:
        raise Refusal("idempotency_key_missing")
    if len(key) > _LONGEST_KEY or not all("!" <= sign <= "~" for sign in key):
        raise invalid("Idempotency-Key", "pattern")
    return key


def _respond(result: View | Reply, status: int) -> Response:
    # Asked this way round because a View's class is an abstract one to Python, and asking for such takes its time.
    if isinstance(result, Reply):
        body = result.body if isinstance(result.body, bytes) else _bytes(result.body)
        return Response(Answer(result.status, result.media_type, body), result.headers)
    return Response(Answer(status, JSON, _bytes(result)))


def _bytes(view: View) -> bytes:
    return view.__pydantic_serializer__.to_json(view)
