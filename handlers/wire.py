"""What happens before a request is a request: bytes that are no HTTP, and heads that never end.

True here: also what never reached the application is answered as a problem and closed; a connection that does not bring a
whole head in time is cut. Never here: a log line with what was sent.
"""

import asyncio
import secrets
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_request import BaseRequest

from handlers.problems import problem
from service.errors import Refusal
from service.locale import DEFAULT_LOCALE

_log = structlog.get_logger("wire")


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
        request_id = secrets.token_hex(16)
        refusal = Refusal("malformed_request" if status < 500 else "internal")  # noqa: PLR2004  a status reads best as its number
        log = _log.info if status < 500 else _log.error  # noqa: PLR2004  a status reads best as its number
        log("not_served", error=type(exc).__name__, code=refusal.code, request_id=request_id)
        answer = problem(refusal, DEFAULT_LOCALE, request_id)
        headers = {"Content-Type": answer.media_type, "X-Request-Id": request_id, "Cache-Control": "no-store"}
        response = web.Response(status=answer.status, body=answer.body, headers=headers | {"Server": "yika"})
        response.force_close()
        return response


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


class Runner(web.AppRunner):
    """aiohttp's runner with our connections. `head_seconds`: deadline for the first head of a connection."""

    __slots__ = ("_head_seconds",)

    def __init__(self, app: web.Application, *, head_seconds: float, **kwargs: Any) -> None:  # noqa: ANN401  aiohttp's own
        super().__init__(app, access_log=None, auto_decompress=False, **kwargs)
        self._head_seconds = head_seconds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        make = made.request_factory

        def request_factory(message: RawRequestMessage, *rest: Any) -> BaseRequest:  # noqa: ANN401  aiohttp's own
            return make(_without_expectation(message), *rest)

        server = _Server(made.request_handler, request_factory=request_factory, loop=made._loop, **made._kwargs)  # noqa: SLF001
        server.connection = type("Connection", (Connection,), {"__slots__": (), "head_seconds": self._head_seconds})
        return server
