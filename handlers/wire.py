"""What happens before a request is a request: bytes that are no HTTP, and heads that never end.

True here: also what never reached the application is answered as a problem and closed; a connection that does not bring a
whole head in time is cut. Never here: a log line with what was sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_request import BaseRequest

from handlers.answers import Outgoing, Response, random_hex
from handlers.problems import problem
from handlers.routing import UNKNOWN
from service.errors import Refusal
from service.locale import DEFAULT_LOCALE

_log = structlog.get_logger("wire")


class Request(web.BaseRequest):
    """A request.

    `outgoing`: what its answer is written by; `alone`: whether no other is being made meanwhile. `route`: the path as the API
    names it; `parts`: what stands in the places of its names; `code`: the answer's. Only on routes that are counted by their
    outcome (handlers/outcomes.py): `kind`, by what it is told apart, and `outcome`.
    """

    __slots__ = ("alone", "code", "kind", "outcome", "outgoing", "parts", "request_id", "route")

    kind: str
    outcome: str

    def __init__(self, outgoing: Outgoing, *given: Any, **named: Any) -> None:  # noqa: ANN401  aiohttp's own
        super().__init__(*given, **named)
        self.outgoing = outgoing
        self.alone = True
        self.request_id = ""
        self.route = UNKNOWN
        self.parts: Mapping[str, str] = {}
        self.code = "ok"


Answering = Callable[[Request], Awaitable[Response]]


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_head_timer",)

    head_seconds = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self.head_seconds, self._cut)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _cut(self) -> None:
        # Later heads on the same connection fall under aiohttp's keep-alive timer.
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  aiohttp's, and it holds what was sent
    ) -> web.StreamResponse:
        """The answer to what is no request, or to a failure outside the application. aiohttp would answer as text."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        request_id = random_hex(128)
        refusal = Refusal("malformed_request" if status < 500 else "internal")  # noqa: PLR2004  a status reads best as its number
        log = _log.info if status < 500 else _log.error  # noqa: PLR2004  a status reads best as its number
        log("not_served", error=type(exc).__name__, code=refusal.code, request_id=request_id)
        answer = problem(refusal, DEFAULT_LOCALE, request_id)
        response = Response(answer, {"X-Request-Id": request_id})
        response.force_close()
        return response  # type: ignore[return-value]  # all that aiohttp asks of a response


def _without_expectation(message: RawRequestMessage) -> RawRequestMessage:
    """Leave an expectation other than 100-continue alone, as RFC 9110 (10.1.1) allows.

    aiohttp would answer it by itself, outside the application, repeating what was sent.
    """
    if message.headers.get("Expect", "100-continue").lower() == "100-continue":
        return message
    headers = message.headers.copy()
    del headers["Expect"]
    return message._replace(headers=type(message.headers)(headers))


class _Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    connection: type[Connection] = Connection

    def __call__(self) -> web.RequestHandler:
        return self.connection(self, loop=self._loop, **self._kwargs)


class Runner(web.ServerRunner):
    """aiohttp's runner of a low-level server, with our requests and connections.

    `answer`: what becomes of a request. `head_seconds`: deadline for the first head of a connection.
    """

    __slots__ = ()

    def __init__(self, answer: Answering, *, largest: int, head_seconds: float, shutdown_timeout: float) -> None:
        loop = asyncio.get_running_loop()
        outgoing = Outgoing(loop)

        def request_factory(message: RawRequestMessage, *rest: Any) -> BaseRequest:  # noqa: ANN401  aiohttp's own
            return Request(outgoing, _without_expectation(message), *rest, loop, client_max_size=largest)

        server = _Server(
            answer,  # type: ignore[arg-type]  # a Response is all that aiohttp asks of a response
            request_factory=request_factory,
            access_log=None,
            auto_decompress=False,
        )
        server.connection = type("Connection", (Connection,), {"__slots__": (), "head_seconds": head_seconds})
        super().__init__(server, shutdown_timeout=shutdown_timeout)
