"""Providers of text messages for tests: Aliyun's SendSms, and a platform of a city's own, on a free port of this machine.

Both check signatures by an implementation of their own, written from the providers' papers and not from our code, and refuse
what is too old or was there before. They keep what they delivered, and can be told to be slow, to break off before or after
they took a message, or to fail. As a process, for tests that kill the sender:

    python -m twins.sms_provider [--deduplicates] [--slow 0.2] [--cuts 0.1]

prints `listening <port>`; `GET /delivered` then gives every message that went out, once for each time.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import random
import re
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from aiohttp import web

KEY_ID = "LTAI-of-a-test"
KEY_SECRET = "secret of a test"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a key of 32 bytes for the tests.").decode()

# What a provider does with the next request instead of taking the message.
CUT_BEFORE = "cut before taking it"
CUT_AFTER = "cut after taking it"
SILENT = "say nothing"
_SKEW = timedelta(minutes=15)
_WEBHOOK_SKEW = timedelta(minutes=5)
_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


@dataclass(frozen=True)
class Delivered:
    """One text message that went to somebody's telephone."""

    message_id: str
    to: str
    template: str
    values: dict[str, str]
    sign_name: str


@dataclass
class SmsProvider:
    """Both providers. `deduplicates` is about the platform: whether it delivers a message once that it is given twice."""

    deduplicates: bool = True
    slow: float = 0.0
    cuts: float = 0.0
    delivered: list[Delivered] = field(default_factory=list)
    offers: Counter[str] = field(default_factory=Counter)
    acts: deque[str] = field(default_factory=deque)
    connections: set[int] = field(default_factory=set)
    port: int = 0
    _nonces: set[str] = field(default_factory=set)
    _taken: set[str] = field(default_factory=set)

    def next(self, *acts: str) -> None:
        """CUT_BEFORE, CUT_AFTER, SILENT, or `status code` such as `200 isv.OUT_OF_SERVICE`."""
        self.acts.extend(acts)

    def routes(self) -> web.Application:
        """As an aiohttp application."""
        application = web.Application()
        application.add_routes(
            [
                web.post("/", self.send_sms),
                web.post("/sms", self.take),
                web.get("/delivered", self.show),
            ]
        )
        return application

    async def show(self, _request: web.Request) -> web.Response:
        """Everything that went out, in order, and how often each was offered."""
        return web.json_response({"delivered": [asdict(one) for one in self.delivered], "offers": dict(self.offers)})

    async def send_sms(self, request: web.Request) -> web.StreamResponse:
        """Aliyun's SendSms, version 2017-05-25."""
        if complaint := self._unsigned(request, await request.read()):
            return _answer(400, complaint)
        query = _parameters(request)
        self.offers[query.get("OutId", "")] += 1
        if request.headers["x-acs-action"] != "SendSms" or request.headers["x-acs-version"] != "2017-05-25":
            return _answer(404, "InvalidAction.NotFound")
        for name in ("PhoneNumbers", "SignName", "TemplateCode"):
            if not query.get(name):
                return _answer(400, f"Missing{name}")
        if not _MOBILE.fullmatch(query["PhoneNumbers"]):
            return _answer(200, "isv.MOBILE_NUMBER_ILLEGAL")
        values = json.loads(query.get("TemplateParam", "{}"))
        if not all(isinstance(value, str) for value in values.values()):
            return _answer(200, "isv.INVALID_JSON_PARAM")
        message = Delivered(query["OutId"], query["PhoneNumbers"], query["TemplateCode"], values, query["SignName"])
        return await self._deliver(request, message, once=False)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """The platform of a city's own: docs/messages-gateways.md."""
        body = await request.read()
        message_id = request.headers.get("Idempotency-Key", "")
        moment = datetime.fromtimestamp(int(request.headers.get("webhook-timestamp", "0")), UTC)
        signed = f"{message_id}.{int(moment.timestamp())}.".encode() + body
        right = hmac.new(base64.b64decode(WEBHOOK_SECRET.split("_")[1]), signed, "sha256").digest()
        if request.headers.get("webhook-signature") != "v1," + base64.b64encode(right).decode():
            return web.json_response({}, status=401)
        if request.headers.get("webhook-id") != message_id or abs(datetime.now(UTC) - moment) > _WEBHOOK_SKEW:
            return web.json_response({}, status=401)
        told = json.loads(body)
        if told["messageId"] != message_id or request.content_type != "application/json":
            return web.json_response({}, status=400)
        self.offers[message_id] += 1
        if not _MOBILE.fullmatch(told["to"]):
            return web.json_response({}, status=422)
        message = Delivered(message_id, told["to"], told["template"], {**told["values"], "text": told["text"]}, "")
        return await self._deliver(request, message, once=self.deduplicates)

    async def _deliver(self, request: web.Request, message: Delivered, *, once: bool) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        act = self.acts.popleft() if self.acts else ""
        if not act and random.random() < self.cuts:
            act = random.choice((CUT_BEFORE, CUT_AFTER))
        if self.slow:
            # Some of the time before, some after: whoever is killed meanwhile does not know on which side it was.
            await asyncio.sleep(random.random() * self.slow)
        if act == SILENT:
            await asyncio.sleep(60)
        if act == CUT_BEFORE:
            return _cut(request)
        if act and act != CUT_AFTER:
            status, _, code = act.partition(" ")
            return _answer(int(status), code)
        if not (once and message.message_id in self._taken):
            self._taken.add(message.message_id)
            self.delivered.append(message)
        if act == CUT_AFTER:
            return _cut(request)
        if self.slow:
            await asyncio.sleep(random.random() * self.slow)
        return _answer(200, "OK")

    def _unsigned(self, request: web.Request, body: bytes) -> str:
        """What is wrong with the signature, as Aliyun names it; empty when nothing is."""
        match = re.fullmatch(
            r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})",
            request.headers.get("Authorization", ""),
        )
        if match is None:
            return "IncompleteSignature"
        key_id, names, signature = match[1], match[2].split(";"), match[3]
        if key_id != KEY_ID:
            return "InvalidAccessKeyId.NotFound"
        if complaint := _wrong(request, body, names, signature):
            return complaint
        moment = datetime.strptime(request.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - moment) > _SKEW:
            return "InvalidTimeStamp.Expired"
        nonce = request.headers["x-acs-signature-nonce"]
        if nonce in self._nonces:
            return "SignatureNonceUsed"
        self._nonces.add(nonce)
        return ""


def _wrong(request: web.Request, body: bytes, names: list[str], signature: str) -> str:
    """Whether a signature leaves something out, or is over something else."""
    present = {name.lower() for name in request.headers}
    wanted = {name for name in present if name.startswith("x-acs-") or name in {"host", "content-type"}}
    if set(names) != wanted or names != sorted(names):
        return "IncompleteSignature"
    digest = hashlib.sha256(body).hexdigest()
    path, _, query = request.raw_path.partition("?")
    headers = "".join(name + ":" + request.headers[name].strip() + "\n" for name in names)
    canonical = [request.method, path, _sorted(query), headers, ";".join(names), digest]
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    right = hmac.new(KEY_SECRET.encode(), text.encode(), "sha256").hexdigest()
    same = right == signature and request.headers["x-acs-content-sha256"] == digest
    return "" if same else "SignatureDoesNotMatch"


def _sorted(query: str) -> str:
    """A query in canonical order and encoding, whatever it came in."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    again = sorted((_encoded(unquote(name)), _encoded(unquote(value))) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in again)


def _encoded(text: str) -> str:
    return "".join(sign if sign in _PLAIN else "".join(f"%{byte:02X}" for byte in sign.encode()) for sign in text)


def _parameters(request: web.Request) -> dict[str, str]:
    pairs = [part.partition("=") for part in request.raw_path.partition("?")[2].split("&")]
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _answer(status: int, code: str) -> web.Response:
    if code == "garbage":
        return web.Response(status=status, text="<html>not what you expected 13800138000</html>")
    message = f"{code} 13800138000"
    return web.json_response({"Code": code, "Message": message, "RequestId": "B", "BizId": "900"}, status=status)


def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


@asynccontextmanager
async def sms_provider(**settings: Any) -> AsyncIterator[SmsProvider]:
    """Providers that listen as long as this lasts."""
    provider = SmsProvider(**settings)
    runner = web.AppRunner(provider.routes(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.port = runner.addresses[0][1]
    try:
        yield provider
    finally:
        await runner.cleanup()


async def _serve(settings: argparse.Namespace) -> None:
    async with sms_provider(deduplicates=settings.deduplicates, slow=settings.slow, cuts=settings.cuts) as provider:
        print("listening", provider.port, flush=True)  # noqa: T201  the test reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--deduplicates", action="store_true", help="deliver a message once, however often it is offered")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds, at most, before and after taking a message")
    parser.add_argument("--cuts", type=float, default=0.0, help="share of requests that are broken off, half of them taken")
    asyncio.run(_serve(parser.parse_args()))
