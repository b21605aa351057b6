"""A city's bridge over HTTP: one POST of JSON a question, signed both ways. docs/look-ups.md says what the other side must do.

True here: the signature is that of Standard Webhooks 1.0.0, as for text messages; the answer carries one over the id of its own
question, so that no answer can stand for another. Never here: a number in an address or a log, a redirect that is followed, or
a word believed of what came back; service/upstream_documents.py judges that.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import orjson
import structlog
from yarl import URL

from service.gateways.sending import SendFailed
from service.gateways.upstream import MOST_BYTES, UpstreamAway, Whose
from service.gateways.webhook import signature
from service.ids import HolderId, new_id

# Seconds by which the two clocks may differ.
SKEW: Final = 300
_AT_ONCE: Final = 64
_CONNECT_SECONDS: Final = 1.0
_REACHED_SECONDS: Final = 5.0
_GOOD: Final = 200

_log = structlog.get_logger("city_bridge")


class CityBridge:
    """UpstreamGateway. It belongs to the event loop that it first asks on, and is closed there."""

    def __init__(self, url: str, secret: Callable[[], str]) -> None:
        """url: what questions are put below; secret: gives `whsec_` and 24 to 64 bytes in base64."""
        self._url = URL(url)
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    def refreshes(self, holder_id: HolderId) -> bool:  # noqa: ARG002  the interface's
        """Anybody's: whom the city does not know, it says so."""
        return True

    async def figures(self, whose: Whose) -> bytes:
        """Somebody's balances. Raises UpstreamAway."""
        return await self._ask("figures", whose)

    async def contributions(self, whose: Whose) -> bytes:
        """All of somebody's contributions. Raises UpstreamAway."""
        return await self._ask("contributions", whose)

    async def housing_fund(self, whose: Whose) -> bytes:
        """Somebody's housing fund account, or that there is none. Raises UpstreamAway."""
        return await self._ask("housing-fund", whose)

    async def reachable(self) -> None:
        """Whether somebody answers there; nobody is asked about. Raises SendFailed."""
        try:
            async with asyncio.timeout(_REACHED_SECONDS), self._open().head(self._url, allow_redirects=False):
                return
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise SendFailed from None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, question: str, whose: Whose) -> bytes:
        body = orjson.dumps({"idNumber": whose.id_number})
        asked, moment = new_id("ask"), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": asked,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature(self._secret(), asked, moment, body),
        }
        try:
            # Whoever asks here has set the deadline.
            async with self._open().post(self._url / question, headers=headers, data=body, allow_redirects=False) as response:
                if response.status != _GOOD:
                    _log.warning("bridge_refused", status=response.status)
                    raise UpstreamAway
                answer = await _read(response.content)
                told = response.headers
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("bridge_gave_no_answer", error=type(error).__name__)
            raise UpstreamAway from None
        if not self._is_signed(asked, told, answer):
            _log.error("bridge_answer_not_signed")
            raise UpstreamAway
        return answer

    def _is_signed(self, asked: str, told: Mapping[str, str], answer: bytes) -> bool:
        moment = told.get("webhook-timestamp", "")
        if told.get("webhook-id") != asked or not (moment.isascii() and moment.isdigit()):
            return False
        if abs(int(moment) - time.time()) > SKEW:
            return False
        right = signature(self._secret(), asked, int(moment), answer).encode()
        # Several while a secret is changed, as Standard Webhooks has it.
        given = told.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
        return any(hmac.compare_digest(right, one) for one in given)

    def _open(self) -> aiohttp.ClientSession:
        # Made on the loop that uses it: a process is put together before it has one.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_AT_ONCE),
                timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _read(content: aiohttp.StreamReader) -> bytes:
    """What comes, up to one byte more than any good answer has."""
    read = bytearray()
    async for part in content.iter_any():
        read += part
        if len(read) > MOST_BYTES:
            break
    return bytes(read[: MOST_BYTES + 1])
