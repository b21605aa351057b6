"""Before anything is measured: every server does the same work, or there is no bench.

True here: each one that claims the whole path answers exactly what Yika answers for the same people, and refuses what Yika
refuses: a token that is forged, expired or for somebody else, a session that ended, a card of others. Nothing that must be
read anew may be remembered: an ended session and a changed balance show in the next answer. Never here: a server that is
measured without this.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from bench.ground import Ground
from bench.people import Person, open_sessions
from bench.servers import YIKA, Server, serving

_COMPARED: Final = 50
_SECONDS: Final = 30

Answers = dict[str, Any]


class CheckError(Exception):
    """A server does not do the work that it would be measured for. The text says which and what."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A server, and a client of it."""

    name: str
    url: str
    client: aiohttp.ClientSession

    async def get(self, card_id: str, token: str | None) -> tuple[int, bytes]:
        """Status and body of a look-up."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with self.client.get(f"{self.url}/v1/cards/{card_id}/balance", headers=headers) as response:
            return response.status, await response.read()

    async def good(self, card_id: str, token: str) -> Any:  # noqa: ANN401  JSON is whatever it is
        """The answer to a look-up that must be good. Raises CheckError."""
        status, body = await self.get(card_id, token)
        if status != 200:  # noqa: PLR2004  a status reads best as its number
            raise CheckError(f"{self.name} answers {status} to a good request")
        return orjson.loads(body)

    async def refused(self, card_id: str, token: str | None, wanted: int, why: str) -> None:
        """Raises CheckError unless this is refused as Yika refuses it."""
        status, _ = await self.get(card_id, token)
        if status != wanted:
            raise CheckError(f"{self.name} answers {status} and not {wanted} to {why}")


def check_all(where: Ground, people: Sequence[Person], servers: Sequence[Server], step: Callable[[str], None]) -> None:
    """Hold every server that claims the whole path against Yika. Raises CheckError."""
    right = _checked(where, people, YIKA, None, step)
    for server in servers:
        if server.whole_path and server.name != YIKA.name:
            _checked(where, people, server, right, step)


def _checked(
    where: Ground, people: Sequence[Person], server: Server, right: Answers | None, step: Callable[[str], None]
) -> Answers:
    step(f"does {server.name} do the same work?")
    with serving(server, where) as served:
        return asyncio.run(check(where, people, server.name, served.url, right))


async def check(where: Ground, people: Sequence[Person], name: str, url: str, right: Answers | None) -> Answers:
    """What a server answers for some people, by card. Raises CheckError where that is not `right`, or it lets anything pass."""
    timeout = aiohttp.ClientTimeout(_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        asked = Asked(name, url, client)
        tokens = await open_sessions(where, people[:_COMPARED])
        answers: Answers = {person.card_id: await asked.good(person.card_id, token) for person, token in tokens}
        if right is not None and answers != right:
            wrong = next(card_id for card_id in answers if answers[card_id] != right[card_id])
            raise CheckError(f"{name} answers {answers[wrong]!r} where Yika answers {right[wrong]!r}")
        (person, token), (other, _), *_ = tokens
        await _tokens(where, asked, person, token)
        await _cards(asked, person, other, token)
        await _sessions(where, asked, person)
        await _nothing_is_remembered(where, asked, person, token)
    return answers


async def _cards(asked: Asked, person: Person, other: Person, token: str) -> None:
    await asked.refused(other.card_id, token, 404, "a card of somebody else")
    await asked.refused("card_" + "a" * 24, token, 404, "a card that is not there")
    await asked.good(person.card_id, token)


async def _tokens(where: Ground, asked: Asked, person: Person, token: str) -> None:
    key = where.ring.signer(time.time())
    claims = jwt.decode(token, options={"verify_signature": False})
    stranger = ec.generate_private_key(ec.SECP256R1())
    if key.private is None:
        raise AssertionError("the key that signs has a private half")

    def forged(
        private: ec.EllipticCurvePrivateKey = key.private, kid: str = key.kid, typ: str = "at+jwt", **changed: object
    ) -> str:
        kept = {name: value for name, value in (claims | changed).items() if value is not None}
        return jwt.encode(kept, private, algorithm="ES256", headers={"typ": typ, "kid": kid})

    await asked.good(person.card_id, forged())
    head, body, signature = token.split(".")
    turned = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt", "kid": key.kid})
    symmetric = jwt.encode(claims, "k" * 64, algorithm="HS256", headers={"typ": "at+jwt", "kid": key.kid})
    bad: tuple[tuple[str | None, str], ...] = (
        (None, "no token"),
        ("nonsense", "a token that is none"),
        (f"{head}.{body}.{turned}", "a changed signature"),
        (unsigned, "a token without a signature"),
        (symmetric, "a token of another algorithm"),
        (forged(private=stranger), "a token of another key"),
        (forged(kid="unknown"), "a token of an unknown key"),
        (forged(typ="receipt+jwt"), "a token of another type"),
        (forged(iss="https://elsewhere.example"), "a token of another issuer"),
        (forged(aud="elsewhere"), "a token for another audience"),
        (forged(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600), "an expired token"),
        (forged(exp=None), "a token without an end"),
        (forged(sub="hld_" + "a" * 24), "a token whose session is somebody else's"),
        (forged(sid="ses_" + "a" * 24), "a token without a session"),
    )
    for text, why in bad:
        await asked.refused(person.card_id, text, 401, why)


async def _sessions(where: Ground, asked: Asked, person: Person) -> None:
    past = datetime.now(UTC) - timedelta(minutes=5)
    changes = (
        ({"endedAt": past, "endReason": "logout"}, "a session that ended"),
        ({"idleUntil": past}, "a session that nobody used"),
        ({"expiresAt": past}, "a session that ran out"),
        ({"holderId": "hld_" + "a" * 24}, "a session of somebody else"),
    )
    for change, why in changes:
        ((_, token),) = await open_sessions(where, [person])
        await asked.good(person.card_id, token)
        where.raw.sessions.update_one({"_id": session_of(token)}, {"$set": change})
        # The very next answer: a session may not be remembered.
        await asked.refused(person.card_id, token, 401, why)


async def _nothing_is_remembered(where: Ground, asked: Asked, person: Person, token: str) -> None:
    figure, here = "accounts.0.balanceFen", {"_id": person.card_id}
    before = await asked.good(person.card_id, token)
    where.raw.cards.update_one(here, {"$inc": {figure: 1}})
    try:
        changed = await asked.good(person.card_id, token)
    finally:
        where.raw.cards.update_one(here, {"$inc": {figure: -1}})
    after = await asked.good(person.card_id, token)
    if changed["items"][0]["balanceFen"] != before["items"][0]["balanceFen"] + 1 or after != before:
        raise CheckError(f"{asked.name} does not see that a balance has changed")


def session_of(token: str) -> str:
    """The session that a token belongs to."""
    return str(jwt.decode(token, options={"verify_signature": False})["sid"])
