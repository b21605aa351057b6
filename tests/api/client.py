"""A client as an integrator would write one, which holds every answer against the API document."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import aiohttp
import orjson
import pyotp
from contracts.conformance import Conformance

from service.clock import CHINA

STEP_SECONDS = 30
DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Api:
    """A client; `token` is sent when there is one."""

    conformance: Conformance | None = None

    def __init__(self, url: str, token: str | None = None, session: aiohttp.ClientSession | None = None) -> None:
        self.url = url
        self.token = token
        self._session = session
        self._owns = session is None
        self._personas: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(60), auto_decompress=False
            )
        if Api.conformance is None:
            Api.conformance = Conformance((await self.get("/openapi.json", checked=False)).json)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owns and self._session is not None:
            await self._session.close()

    def as_(self, token: str | None) -> "Api":
        """The same client, signed in as somebody else."""
        other = Api(self.url, token, self._session)
        other._personas = self._personas
        other._steps = self._steps
        return other

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> Reply:
        """Any request at all."""
        assert self._session is not None
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._session.request(
            method, self.url + path, data=data, headers={**own, **(headers or {})}, skip_auto_headers=["Content-Type"]
        ) as response:
            reply = Reply(response.status, response.headers, await response.read())
        if checked and Api.conformance is not None:
            media = reply.headers.get("Content-Type", "")
            Api.conformance.check(method, path, reply.status, media, reply.headers, reply.raw)
        return reply

    async def get(self, path: str, *, checked: bool = True, **headers: str) -> Reply:
        return await self.send("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}, checked=checked)

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> Reply:
        """A POST with JSON; `key` becomes the Idempotency-Key, "new" a fresh one."""
        own = {"Content-Type": "application/json"} | dict(headers or {})
        if key is not None:
            own["Idempotency-Key"] = secrets.token_hex(16) if key == "new" else key
        return await self.send("POST", path, data=orjson.dumps(body if body is not None else {}), headers=own, checked=checked)

    async def persona(self, key: str) -> dict[str, Any]:
        """What the sandbox says of a persona."""
        if not self._personas:
            answer = await self.get("/sandbox/personas")
            self._personas.update({item["key"]: item for item in answer.json["items"]})
        return self._personas[key]

    async def messages(self, mobile: str) -> list[dict[str, Any]]:
        """What was sent to a mobile, newest first."""
        items: list[dict[str, Any]] = (await self.post("/sandbox/messages/search", {"to": mobile})).json["items"]
        return items

    async def code_sent_to(self, mobile: str) -> str:
        """The newest code; a code overtakes other messages that are on their way."""
        return next(str(message["code"]) for message in await self.messages(mobile) if message["code"] is not None)

    async def start(self, key: str, method: str = "sms") -> dict[str, Any]:
        """Start a verification as a persona."""
        person = await self.persona(key)
        body = {"method": method, "name": person["name"], "idNumber": person["idNumber"]}
        if method == "sms":
            body["mobile"] = person["mobile"]
        reply = await self.post("/v1/identity/verifications", body)
        assert reply.status == 201, reply.raw
        started: dict[str, Any] = reply.json
        return started

    async def tokens(self, key: str, method: str = "sms") -> dict[str, Any]:
        """Verify as a persona, all the way to tokens."""
        person = await self.persona(key)
        started = await self.start(key, method)
        proof: dict[str, str] = {}
        if method == "sms":
            proof = {"code": await self.code_sent_to(person["mobile"])}
        if method == "password":
            proof = {"password": person["queryPassword"]}
        reply = await self.post(f"/v1/identity/verifications/{started['verificationId']}/confirm", proof)
        assert reply.status == 200, reply.raw
        tokens: dict[str, Any] = reply.json
        return tokens

    async def sign_in(self, key: str, method: str = "sms") -> "Api":
        """A client that is signed in as a persona."""
        return self.as_((await self.tokens(key, method))["accessToken"])

    async def staff_proof(self, key: str) -> dict[str, str]:
        """What an operator types, with a code that this client has not used yet; that may take until the next one comes."""
        persona = await self.persona(key)
        step = max(int(time.time()) // STEP_SECONDS, self._steps.get(key, 0) + 1)
        # The next code counts already.
        await asyncio.sleep(max(0.0, (step - 1) * STEP_SECONDS - time.time()))
        code = pyotp.HOTP(persona["totpSecret"]).at(step)
        return {"username": persona["username"], "password": persona["password"], "totp": code}

    async def sign_in_as_staff(self, key: str, **instead: str) -> Reply:
        """Sign in as an operator, perhaps with something else in place of what is right."""
        proof = await self.staff_proof(key)
        began = int(time.time()) // STEP_SECONDS
        reply = await self.post("/v1/staff/sessions", proof | instead)
        if reply.status == 200:
            self._steps[key] = max(began, self._steps.get(key, 0) + 1)
        return reply

    async def staff_tokens(self, key: str) -> dict[str, Any]:
        """Sign in as an operator, to tokens."""
        reply = await self.sign_in_as_staff(key)
        assert reply.status == 200, reply.raw
        tokens: dict[str, Any] = reply.json
        return tokens

    async def sign_in_staff(self, key: str) -> "Api":
        """A client that is signed in as an operator."""
        return self.as_((await self.staff_tokens(key))["accessToken"])

    async def accesses(self) -> list[dict[str, Any]]:
        """What my access log says, newest first, but for sign-ins and my own looks."""
        items = (await self.get("/v1/me/access-log?limit=100")).json["items"]
        own = [item for item in items if item["by"] == "self" and item["action"].startswith(("see", "sign"))]
        return [item for item in items if item not in own]

    async def details(self, key: str, card: int = 0) -> dict[str, str]:
        """The three numbers of a persona's card."""
        person = await self.persona(key)
        own = person["cards"][card]
        return {
            "idNumber": person["idNumber"],
            "cardNumber": own["cardNumber"],
            "identificationCode": own["identificationCode"],
        }

    async def activate(self, body: Mapping[str, Any], key: str = "new") -> Reply:
        """Ask for an activation."""
        return await self.post("/v1/activations", body, key=key)

    async def advance(self, seconds: int) -> None:
        """Move the sandbox's clock."""
        assert (await self.post("/sandbox/clock", {"advanceSeconds": seconds})).status == 200

    async def at_hour(self, hour: int) -> datetime:
        """Move the clock to the next time that it is so late at +08:00: people hear of some things in waking hours only."""
        here = datetime.fromisoformat((await self.post("/sandbox/clock", {"advanceSeconds": 0})).json["now"]).astimezone(CHINA)
        seconds = (here.replace(hour=hour, minute=0, second=0, microsecond=0) - here).total_seconds() % DAY_SECONDS
        reply = await self.post("/sandbox/clock", {"advanceSeconds": int(seconds) + 1})
        return datetime.fromisoformat(reply.json["now"])
