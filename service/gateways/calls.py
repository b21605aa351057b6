"""One POST to a provider of messages, and what is known when no answer comes.

True here: a connection that was never made is a message that was never taken; whatever breaks after that leaves unknown what
the provider did. Nothing is repeated here and no redirect followed. Never here: an address or a body in a log; both hold
numbers.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog
from yarl import URL

from service.gateways.sending import ANSWER_SECONDS, SendFailed, SendUncertain

CONNECT_SECONDS: Final = 5.0
# The longest answer of any provider is some hundred bytes.
MOST_ANSWER: Final = 64 * 1024
_AT_ONCE: Final = 32

_log = structlog.get_logger("gateways")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered: status, and the first MOST_ANSWER bytes."""

    status: int
    body: bytes


class Calls:
    """A client of one provider. It belongs to the event loop that it first calls on, and is closed there."""

    def __init__(self, *, keep_alive: bool) -> None:
        """keep_alive: use a connection again.

        One that the provider has just closed makes a call uncertain, so this is for providers who tell repeats.
        """
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """The provider's answer, whatever it is. Raises SendFailed or SendUncertain when there is none."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async with self._open().post(url, headers=headers, data=body or None, allow_redirects=False) as response:
                    return Answer(response.status, await _read(response.content))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            _log.warning("gateway_not_reached", error=type(error).__name__)
            raise SendFailed from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _log.warning("gateway_gave_no_answer", error=type(error).__name__)
            raise SendUncertain from None

    async def reachable(self, url: URL) -> None:
        """Connect and ask for nothing that sends. Raises SendFailed when nobody answers."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async with self._open().head(url, allow_redirects=False):
                    return
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise SendFailed from None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Made on the loop that uses it: a process is put together before it has one.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_AT_ONCE, force_close=not self._keep_alive),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "yika"},
                # A header that the signature does not know of would make it a wrong one.
                skip_auto_headers=("Content-Type",),
            )
        return self._session


async def _read(content: aiohttp.StreamReader) -> bytes:
    read = bytearray()
    async for part in content.iter_any():
        read += part
        if len(read) > MOST_ANSWER:
            break
    return bytes(read[:MOST_ANSWER])
