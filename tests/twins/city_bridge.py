"""A city's bridge for tests, on a free port of this machine.

It checks signatures by an implementation of its own, written from docs/look-ups.md and not from our code, refuses what is too
old or was there before, and signs what it answers. It can be told to be silent, to break off, to answer something else, or to
sign it wrongly.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SECRET = "whsec_" + base64.b64encode(b"another key of 32 bytes for them").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"nobody's key, also of 32 bytes..").decode()

# What it does with the next question instead of answering it.
SILENT = "say nothing"
CUT = "cut"
UNSIGNED = "no signature"
FORGED = "signed by somebody else"
OF_ANOTHER = "the answer to another question"
OLD = "signed an hour ago"
HUGE = "far too much"
ELSEWHERE = "go elsewhere"
_SKEW = 300


def signed(secret: str, named: str, moment: str, body: bytes) -> str:
    """As Standard Webhooks signs."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{named}.{moment}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


@dataclass
class Bridge:
    """The bridge. `books`: what it answers, by question and ID number."""

    books: dict[str, Callable[[str], dict[str, Any]]]
    asked: list[tuple[str, str]] = field(default_factory=list)
    acts: deque[str] = field(default_factory=deque)
    port: int = 0
    _seen: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bridge"

    def next(self, *acts: str) -> None:
        """One of the acts above, or `status 503`."""
        self.acts.extend(acts)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        named, moment = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
        right = signed(SECRET, named, moment, body)
        if not hmac.compare_digest(right, request.headers.get("webhook-signature", "")):
            return web.Response(status=401)
        if abs(time.time() - int(moment)) > _SKEW or named in self._seen:
            return web.Response(status=401)
        self._seen.add(named)
        question, told = request.match_info["question"], json.loads(body)
        assert list(told) == ["idNumber"]
        self.asked.append((question, told["idNumber"]))
        act = self.acts.popleft() if self.acts else ""
        if act == SILENT:
            await asyncio.sleep(30)
        if act == CUT and request.transport is not None:
            request.transport.close()
        if act.startswith("status "):
            return web.Response(status=int(act.split()[1]))
        if act == ELSEWHERE:
            return web.Response(status=307, headers={"Location": f"{self.url}/{question}"})
        answer = json.dumps(self.books[question](told["idNumber"])).encode()
        if act == HUGE:
            answer += b" " * 3_000_000
        at = str(int(time.time()) - (3600 if act == OLD else 0))
        named = "ask_of_somebody_else" if act == OF_ANOTHER else named
        headers = {"webhook-id": named, "webhook-timestamp": at}
        if act != UNSIGNED:
            headers["webhook-signature"] = signed(OTHER_SECRET if act == FORGED else SECRET, named, at, answer)
        return web.Response(body=answer, content_type="application/json", headers=headers)


@asynccontextmanager
async def city_bridge(books: dict[str, Callable[[str], dict[str, Any]]]) -> AsyncIterator[Bridge]:
    """A bridge that listens until the end of the block."""
    bridge = Bridge(books)
    application = web.Application()
    application.router.add_post("/bridge/{question}", bridge.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bridge.port = runner.addresses[0][1]
        yield bridge
    finally:
        await runner.cleanup()
