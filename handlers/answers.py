"""How an answer goes out: a status line, the same protecting headers on every one, what a route adds, and the body.

True here: nothing is answered in any other way, so nothing goes out without these headers; head and body are one write. The
values of headers are ours or have been looked at character by character. Never here: a body for a HEAD or a 304.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11

from service.idempotency import Answer

if TYPE_CHECKING:
    # A request holds what its answer is written by, and so imports this.
    from handlers.wire import Request

JSON: Final = "application/json"
_PROTECTING: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Referrer-Policy": "no-referrer",
    "Server": "yika",
}
_NOT_MODIFIED: Final = 304
# What fits into a connection's buffer need not wait until it has been sent.
_LARGE: Final = 64 * 1024
# For what only has to differ, not to be unguessable; a call of the system for each would cost more than all else at the border.
_chance = random.Random(secrets.randbits(256))  # noqa: S311  it guards nothing


class Outgoing:
    """Answers on their way out: those of one turn of the loop are written one after the other when it is over.

    A write is a call of the system that wakes whoever waits for it, and what comes after it finds the processor's caches gone.
    So first all are made and then all are written: measured at 64 connections, a look-up costs a fifteenth less.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write it when this turn of the loop is over; what is put twice on one connection goes in that order."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            # Whoever went away meanwhile must not take the answers of others along.
            if not transport.is_closing():
                transport.write(data)


class Response:
    """An answer on its way out. aiohttp's protocol calls `prepare`, `write_eof` and `keep_alive`, as on its own responses.

    `headers` are added to the protecting ones, or take their place.
    """

    __slots__ = ("body", "headers", "keep_alive", "media_type", "status")

    def __init__(self, answer: Answer, headers: Mapping[str, str] | None = None) -> None:
        self.status = answer.status
        self.media_type = answer.media_type
        self.body = answer.body
        self.headers = dict(headers) if headers else {}
        self.keep_alive: bool | None = None

    def force_close(self) -> None:
        """This answer is the last on its connection."""
        self.keep_alive = False

    async def prepare(self, request: "Request") -> None:
        """Write it. Raises ConnectionResetError when nobody is there any more."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive
        body = b"" if request.method == "HEAD" or self.status == _NOT_MODIFIED else self.body
        request.outgoing.put(transport, self._head(request.version >= HttpVersion11) + body)
        if request.alone or not self.keep_alive or len(body) > _LARGE:
            # Nothing to wait for; or the connection is closed next, or has to say how much there is room for.
            request.outgoing.flush()
        if len(body) > _LARGE:
            await request.writer.drain()

    async def write_eof(self) -> None:
        """Everything was written at once."""

    def _head(self, modern: bool) -> bytes:  # noqa: FBT001  whether the client speaks HTTP/1.1
        headers = self.headers
        if headers.keys().isdisjoint(_PROTECTING):
            lines = [_beginning(self.status, self.media_type)]
        else:
            lines = [_status_line(self.status, self.media_type)]
            headers = {**_PROTECTING, **headers}
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if self.status != _NOT_MODIFIED:
            lines.append(f"Content-Length: {len(self.body)}\r\n")
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        elif not modern:
            lines.append("Connection: keep-alive\r\n")
        lines.append(_date(int(time.time())))
        return "".join(lines).encode("latin-1")


@lru_cache(maxsize=256)
def _status_line(status: int, media_type: str) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {media_type}\r\n"


@lru_cache(maxsize=256)
def _beginning(status: int, media_type: str) -> str:
    return _status_line(status, media_type) + "".join(f"{name}: {value}\r\n" for name, value in _PROTECTING.items())


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The last header and the end of the head."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n\r\n"


def random_hex(bits: int) -> str:
    """Hex digits for ids of a request or a trace. They must not be all zeros, which these are not in anybody's lifetime."""
    return f"{_chance.getrandbits(bits):0{bits // 4}x}"
