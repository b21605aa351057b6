"""The border: what every answer has in common, whatever became of the request.

True here: nothing leaves without a request id, a body, a code and the headers that protect it; an exception that nobody
expected becomes a bare 500 and a log line with its type and place, not with its text, because texts hold values.
"""

import re
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
import structlog
from aiohttp import HttpVersion11

from handlers.answers import JSON, Response, random_hex
from handlers.metrics import Metrics
from handlers.problems import MEDIA_TYPE, problem
from handlers.routing import MethodNotAllowedError, Routing
from handlers.wire import Answering, Request
from service.errors import Refusal
from service.idempotency import Answer
from service.locale import negotiate, text

ENVELOPE: Final = "application/vnd.yika.envelope+json"

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# A mobile, an ID number, a bank number or a card identification code, wherever it stands in a text. Times in digits, which
# are common in request ids, are none of them: in micro- and nanoseconds they begin with 1.
_NUMBER: Final = re.compile(
    r"(?<![0-9])(?:1[3-9][0-9]{9}|[0-9]{17}[0-9Xx]|[2-9][0-9]{15,18})(?![0-9])|[0-9]{6}[Dd]156[0-9A-Fa-f]{22}"
)
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_EXPOSED: Final = "ETag, Idempotency-Replayed, Retry-After, WWW-Authenticate, X-Request-Id, traceparent"
_ALLOWED: Final = "Accept, Accept-Language, Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id"
_SLOW_SECONDS: Final = 1.0

_log = structlog.get_logger("http")


def border(routing: Routing[Answering], metrics: Metrics, origins: frozenset[str], stopping: Callable[[], bool]) -> Answering:
    """What every request comes through. `stopping`: whether this process is about to end."""

    async def serve(request: Request) -> Response:
        started = time.perf_counter()
        given = request.headers.get("X-Request-Id")
        # For request, trace and span: one draw is cheaper than three.
        drawn = random_hex(320)
        request.request_id = given if given and is_request_id(given) else drawn[:32]
        metrics.in_flight += 1
        try:
            response = await _answer(request, routing, origins, metrics)
        finally:
            metrics.in_flight -= 1
            request.alone = not metrics.in_flight
        if "Accept" in request.headers and wants_envelope(request.headers.getall("Accept")):
            response = _envelope(request, response)
        _dress(request, response, origins, drawn[32:])
        if stopping():
            # Said while it can still be heard: a client that kept the connection would send its next request into the void.
            response.force_close()
        seconds = time.perf_counter() - started
        code = request.code
        metrics.observe(request.method, request.route, response.status, code, seconds)
        if code != "ok" or request.method != "GET" or seconds > _SLOW_SECONDS:
            _log.info(
                "request",
                method=request.method,
                route=request.route,
                status=response.status,
                code=code,
                ms=round(seconds * 1000, 1),
                request_id=request.request_id,
            )
        return response

    return serve


def is_request_id(text: str) -> bool:
    """Whether a client's request id may be taken. It ends up in logs, so what looks like a person's number may not."""
    return _REQUEST_ID.fullmatch(text) is not None and _NUMBER.search(text) is None


def wants_envelope(accept: Iterable[str]) -> bool:
    """Whether the envelope is among what the client takes (RFC 9110, 12.5.1)."""
    for header in accept:
        if "yika" not in header.lower():
            continue
        for part in header.lower().split(","):
            media_type, *parameters = (word.strip() for word in part.split(";"))
            if media_type == ENVELOPE and not any(re.fullmatch(r"q=0(\.0*)?", word) for word in parameters):
                return True
    return False


async def _answer(request: Request, routing: Routing[Answering], origins: frozenset[str], metrics: Metrics) -> Response:
    try:
        if request.method == "OPTIONS" and request.headers.get("Origin") in origins:
            return Response(Answer(200, JSON, b"{}"))
        target, request.route, request.parts = routing.find(request.method, request.rel_url.raw_path)
        if "Expect" in request.headers:
            await _continue(request)
        return await target(request)
    except Refusal as refusal:
        return _refuse(request, refusal, metrics)
    except MethodNotAllowedError as error:
        response = _refuse(request, Refusal("method_not_allowed"), metrics)
        response.headers["Allow"] = ", ".join(error.allowed)
        return response
    except TimeoutError:
        # A read that took too long did nothing; of anything else nobody knows what it did.
        lost = Refusal("unavailable" if request.method == "GET" else "outcome_unknown", retry_after=2)
        return _refuse(request, lost, metrics)
    except Exception as error:  # noqa: BLE001  the last place where it can become an answer
        _log.error(
            "unexpected",
            error=type(error).__name__,
            at=[f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-6:]],
            route=request.route,
            request_id=request.request_id,
        )
        return _refuse(request, Refusal("internal"), metrics)


async def _continue(request: Request) -> None:
    """Tell a client that waits for it that its body is welcome (RFC 9110, 10.1.1)."""
    if request.version >= HttpVersion11 and request.transport is not None:
        request.outgoing.put(request.transport, b"HTTP/1.1 100 Continue\r\n\r\n")
        request.outgoing.flush()


def _refuse(request: Request, refusal: Refusal, metrics: Metrics) -> Response:
    metrics.refuse(refusal)
    locale = negotiate(request.headers.get("Accept-Language"))
    answer = problem(refusal, locale, request.request_id)
    request.code = refusal.code
    headers: dict[str, str] = {"Content-Language": locale}
    if answer.status == 401:  # noqa: PLR2004  a status reads best as its number
        told = "" if refusal.code == "unauthenticated" else ' error="invalid_token"'
        headers["WWW-Authenticate"] = f"Bearer{told}"
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return Response(answer, headers)


def _envelope(request: Request, response: Response) -> Response:
    """The same answer as HTTP 200, for runtimes that hide the body of anything else."""
    if response.media_type not in {JSON, MEDIA_TYPE} and response.status != 304:  # noqa: PLR2004  a status reads best as its number
        return response
    content: Any = orjson.loads(response.body) if response.body else None
    good = response.status < 400  # noqa: PLR2004  a status reads best as its number
    locale = negotiate(request.headers.get("Accept-Language"))
    if good:
        code = "not_modified" if response.status == 304 else "ok"  # noqa: PLR2004  a status reads best as its number
        message, data = text(locale, "envelope.ok"), content
    else:
        code, message = content["code"], content["detail"]
        own = {"type", "title", "status", "detail", "code", "requestId"}
        data = {name: value for name, value in content.items() if name not in own} or None
    wrapped = {
        "success": good,
        "code": code,
        "message": message,
        "data": data,
        "httpStatus": response.status,
        "requestId": request.request_id,
    }
    return Response(Answer(200, ENVELOPE, orjson.dumps(wrapped)), response.headers)


def _dress(request: Request, response: Response, origins: frozenset[str], drawn: str) -> None:
    headers = response.headers
    headers["X-Request-Id"] = request.request_id
    given = request.headers.get("traceparent")
    trace = _TRACEPARENT.fullmatch(given) if given else None
    trace_id, flags = (trace[1], trace[2]) if trace else (drawn[16:], "00")
    headers["traceparent"] = f"00-{trace_id}-{drawn[:16]}-{flags}"
    origin = request.headers.get("Origin")
    if origins:
        headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
    if origin in origins and origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _EXPOSED
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = "GET, POST"
            headers["Access-Control-Allow-Headers"] = _ALLOWED
            headers["Access-Control-Max-Age"] = "600"
