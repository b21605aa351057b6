"""A canary goes through everything, right and wrong, and is then looked for everywhere it must not be."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import bson
import pytest
from api.client import Api, Reply
from api.collector import collecting
from bson.raw_bson import RawBSONDocument
from faults.workers import worker
from pymongo import MongoClient

from service.config import Config
from service.keyring import new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.regions import SHIPPED, Regions
from service.sandbox.personas import Person, Staff, cast, people, staff

CANARY = "sealed3"
EVERYBODY = cast(Regions.load_directory(SHIPPED))
PEOPLE = {person.key: person for person in people(EVERYBODY)}
STAFF = {one.key: one for one in staff(EVERYBODY)}


def spellings(secret: str) -> Iterator[bytes]:
    """A secret as it might lie in bytes: as it is, for URLs, in JSON, in base64, in UTF-16, in hex."""
    raw = secret.encode()
    yield raw
    yield quote(secret).encode()
    yield quote(secret).lower().encode()
    yield json.dumps(secret)[1:-1].encode()
    yield json.dumps(secret)[1:-1].upper().replace("\\U", "\\u").encode()
    yield "".join(f"\\u{ord(sign):04x}" for sign in secret).encode()
    yield repr(raw)[2:-1].encode()
    yield secret.encode("utf-16-le")
    yield secret.encode("utf-16-be")
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield secret.lower().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # What comes before shifts the bits, and the signs at both ends belong to the neighbours too. What is left of a short
        # secret would be found everywhere.
        for before in range(3):
            inner = encode(b"\0" * before + raw)[4 if before else 0 : -4]
            if len(inner) >= 8:
                yield inner


@dataclass(frozen=True)
class Secrets:
    """What must not be found, by a name that may be told."""

    patterns: Mapping[str, frozenset[bytes]]

    @classmethod
    def of(cls, named: Mapping[str, str]) -> "Secrets":
        return cls({name: frozenset(spellings(secret)) for name, secret in named.items()})

    def found_in(self, places: Mapping[str, bytes]) -> list[str]:
        """Where which secret is; told without the secret."""
        return [
            f"{name} in {place}"
            for place, content in places.items()
            for name, patterns in self.patterns.items()
            if any(_lies_in(pattern, content) for pattern in patterns)
        ]


def _lies_in(pattern: bytes, content: bytes) -> bool:
    """Whether a spelling is there. Six digits stand in some random request id sooner or later; a code stands by itself."""
    if pattern.isdigit() and len(pattern) <= 6:
        return re.search(rb"(?<![0-9A-Fa-f])" + pattern + rb"(?![0-9A-Fa-f])", content) is not None
    return pattern in content


def _person(person: Person) -> dict[str, str]:
    """A person's own: what is printed, what is proved with, and the spellings in which it is typed."""
    number = person.id_number.number
    named = {
        "ID number": number,
        "ID number, spaced": f"{number[:6]} {number[6:14]} {number[14:]}",
        "ID number, full width": "".join(chr(ord(sign) + 0xFEE0) for sign in number),
        "name": person.name,
        "mobile": person.mobile,
        "mobile, dashed": f"{person.mobile[:3]}-{person.mobile[3:7]}-{person.mobile[7:]}",
        "query password": person.query_password,
        "household register": person.household_register,
    }
    for place, card in enumerate(person.cards):
        named |= {
            f"card number {place}": card.number,
            f"identification code {place}": card.identification_code,
            f"bank number {place}": card.bank_account,
        }
    return named


def _staff(one: Staff) -> dict[str, str]:
    """An operator's own: who it is, and what is proved with."""
    operator = one.operator
    return {"name": operator.name, "username": operator.username, "password": one.password, "secret": one.totp_secret}


class _Listening(Api):
    """A client that keeps every answer it got."""

    heard: list[Reply]

    def __init__(self, url: str, token: str | None = None, session: Any = None) -> None:
        super().__init__(url, token, session)
        self.heard = []

    def as_(self, token: str | None) -> "_Listening":
        other = _Listening(self.url, token, self._session)
        other.heard, other._personas, other._steps = self.heard, self._personas, self._steps
        return other

    async def send(self, *arguments: Any, **named: Any) -> Reply:
        reply = await super().send(*arguments, **named)
        self.heard.append(reply)
        return reply


JSON = {"Content-Type": "application/json"}
VERIFICATIONS = "/v1/identity/verifications"


async def _walk(api: _Listening) -> dict[str, str]:
    """The whole journey of the canary; the secrets that came up on the way."""
    person = PEOPLE[CANARY]
    came: dict[str, str] = {}
    tokens = [await api.tokens(CANARY, method) for method in ("sms", "password", "face")]
    for number, message in enumerate(await api.messages(person.mobile)):
        if message["code"]:
            came[f"one-time code {number}"] = message["code"]
    client = api.as_(tokens[0]["accessToken"])
    details = await api.details(CANARY)
    assert (await client.activate(await api.details("sealed4"))).code == "card_details_mismatch"
    done = await client.activate(details, "k")
    assert done.json["result"] == "activated"
    assert (await client.activate(details, "k")).raw == done.raw
    assert (await client.activate(details)).json["result"] == "alreadyActivated"
    assert (await client.activate({**details, "onBehalfOf": person.id_number.number}, "k2")).status == 404
    assert (await client.get(f"/v1/cards?onBehalfOf={person.id_number.number}")).status == 404
    shown = (await client.post("/v1/me/reveal", {"fields": ["name", "idNumber", "mobile"]}, key="new")).json
    assert shown["idNumber"] == person.id_number.number
    card = done.json["cardId"]
    for path in (f"/v1/cards/{card}", f"/v1/cards/{card}/balance", f"/v1/cards/{card}/history", "/v1/cards", "/v1/me"):
        assert (await client.get(path)).status == 200
    for path in (
        "/v1/me/access-log",
        "/v1/sessions",
        "/v1/pages/social-security-card",
        f"/v1/activations/{done.json['activationId']}",
    ):
        assert (await client.get(path)).status == 200
    refreshed = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens[0]["refreshToken"]})).json
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens[0]["refreshToken"]})).code == "token_revoked"
    assert (await api.as_(tokens[1]["accessToken"]).activate(details)).code == "assurance_too_low"
    assert (await api.as_(tokens[2]["accessToken"]).post("/v1/sessions/logout")).status == 200
    at_the_counter = await api.staff_tokens("bureau")
    assert (await api.as_(at_the_counter["accessToken"]).get("/v1/staff/me")).status == 200
    assert (await api.sign_in_as_staff("bureau", totp="000000")).code == "sign_in_failed"
    for number, granted in enumerate((*tokens, refreshed, at_the_counter)):
        came |= {f"access token {number}": granted["accessToken"], f"refresh token {number}": granted["refreshToken"]}
        came[f"signature of access token {number}"] = granted["accessToken"].rpartition(".")[2]
    return came


def _wrong_bodies(person: Person) -> Iterator[tuple[str, Any]]:
    """Every field with everything that is the canary's, where it does not belong."""
    card = person.cards[0]
    start = {"method": "sms", "name": person.name, "idNumber": person.id_number.number, "mobile": person.mobile}
    activation = {
        "idNumber": person.id_number.number,
        "cardNumber": card.number,
        "identificationCode": card.identification_code,
    }
    household = {
        "name": person.name,
        "idNumber": person.id_number.number,
        "relationship": "child",
        "householdRegister": person.household_register,
    }
    bodies: list[tuple[str, dict[str, Any]]] = [
        (VERIFICATIONS, start),
        (f"{VERIFICATIONS}/ver_aaaaaaaaaaaaaaaaaaaaaaaa/confirm", {"code": "000000", "password": person.query_password}),
        ("/v1/activations", activation),
        ("/v1/dependants", household),
        ("/v1/receipts/verify", {"receipt": person.id_number.number}),
        ("/v1/sessions/refresh", {"refreshToken": person.id_number.number}),
        ("/v1/staff/sessions", {"username": person.id_number.number, "password": person.query_password, "totp": "000000"}),
        ("/v1/me/reveal", {"fields": [person.name]}),
        ("/sandbox/messages/search", {"to": person.id_number.number}),
    ]
    for path, body in bodies:
        yield path, body
        for own in _person(person).values():
            for field in body:
                for value in (own, own + "?", [own], {own: own}, {"a": {"b": own}}):
                    yield path, body | {field: value}
            yield path, body | {own: own}
            yield path, own
            yield path, [own]


def _wrong_requests(person: Person) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Method, path, headers and body with the canary's own in every other place."""
    number = person.id_number.number
    for own in _person(person).values():
        inside = quote(own, safe="")
        for path in (
            f"/{inside}",
            f"/v1/people/{inside}/cards",
            f"/v1/cards/{inside}",
            f"/v1/cards/{inside}/history",
            f"/v1/activations/{inside}",
            f"/v1/pages/{inside}",
            f"/v1/regions/{inside}",
            f"/sandbox/face/{inside}",
            f"/v1/cards?cursor={inside}",
            f"/v1/cards?limit={inside}",
            f"/v1/pages/home?region={inside}",
            f"/v1/regions?idNumber={inside}&{inside}=1",
            f"/v1/sessions?cursor={base64.urlsafe_b64encode(own.encode()).decode()}",
        ):
            yield "GET", path, {}, b""
            yield "DELETE", path, {}, b""
        for path in (f"{VERIFICATIONS}/{inside}/confirm", f"{VERIFICATIONS}/{inside}/resend", f"/v1/sessions/{inside}/revoke"):
            yield "POST", path, JSON, b"{}"
        for body in (
            f'{{"idNumber":"{own}"',
            f'{{"idNumber":"{own}\ud800"}}'.encode(errors="surrogatepass").decode(errors="replace"),
            own,
        ):
            yield "POST", VERIFICATIONS, JSON, body.encode()
        yield "POST", VERIFICATIONS, {"Content-Type": "text/plain"}, own.encode()
        yield "POST", VERIFICATIONS, JSON | {"Content-Encoding": "gzip"}, own.encode()
        yield "POST", VERIFICATIONS, JSON, own.encode() * 10_000
    for header in (
        "Authorization",
        "Accept",
        "Accept-Language",
        "Cookie",
        "Origin",
        "Referer",
        "User-Agent",
        "X-Forwarded-For",
    ):
        yield "GET", "/v1/me", {header: number}, b""
    for header in ("If-None-Match", "traceparent", "Content-Type", "X-Request-Id", "Idempotency-Key", "Expect"):
        yield "GET", "/v1/pages/nowhere", {header: number}, b""
    for told in (number, number.lower(), person.mobile, person.cards[0].identification_code, person.cards[0].bank_account):
        yield "GET", "/v1/pages/nowhere", {"X-Request-Id": told}, b""
    yield "GET", "/v1/me", {"Authorization": f"Bearer {number}"}, b""
    pair = base64.b64encode(f"{number}:{person.query_password}".encode()).decode()
    yield "GET", "/v1/me", {"Authorization": f"Basic {pair}"}, b""


async def _blunder(api: _Listening, client: _Listening) -> None:
    """Everything that can be done wrong."""
    person = PEOPLE[CANARY]
    for path, body in _wrong_bodies(person):
        who = client if path in {"/v1/activations", "/v1/dependants", "/v1/me/reveal"} else api
        await who.send("POST", path, data=json.dumps(body).encode(), headers=JSON | {"Idempotency-Key": "w"}, checked=False)
    for method, path, headers, data in _wrong_requests(person):
        await client.send(method, path, data=data or None, headers=headers, checked=False)
    for key in (person.id_number.number, person.mobile, person.cards[0].number):
        assert (await client.activate(await api.details(CANARY), key)).status == 200


async def _garble(url: str) -> bytes:
    """What is no HTTP, with the canary in it; all that was answered."""
    person = PEOPLE[CANARY]
    where = urlsplit(url)
    number = person.id_number.number.encode()
    answers: list[bytes] = []
    for data in (
        number + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + number + b" HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + person.name.encode() + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + number + b"\x00: 1\r\n\r\n",
        b"POST /v1/activations HTTP/1.1\r\nHost: x\r\nContent-Length: " + number + b"\r\n\r\n",
        b"POST /v1/identity/verifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + number + b"\r\n",
    ):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(data)
        writer.write_eof()
        answers.append(await asyncio.wait_for(reader.read(), 5))
        writer.close()
    # Somebody who hangs up in the middle of a body.
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    head = (
        b"POST /v1/identity/verifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    )
    writer.write(head + b'{"idNumber":"' + number)
    await writer.drain()
    writer.close()
    return b"".join(answers)


async def _break(client: _Listening, raw: Any) -> list[Reply]:
    """Failures of ours: a card that does not open, and a database that takes no card any more."""
    person = PEOPLE[CANARY]
    card_id = person.cards[0].card_id
    whole = raw.cards.find_one({"_id": card_id})
    raw.cards.update_one({"_id": card_id}, {"$set": {"number": whole["number"][:-1] + b"\0"}})
    paths = (f"/v1/cards/{card_id}", "/v1/cards")
    replies = [await client.send("GET", path, checked=False) for path in paths]
    replies.append(await client.activate(await client.details(CANARY)))
    await client.post("/sandbox/reset")
    raw.command({"collMod": "cards", "validator": {"version": 7}})
    replies.append(await client.activate(await client.details(CANARY)))
    return replies


@dataclass(frozen=True)
class Traces:
    """All that a process left behind, by where."""

    secrets: Secrets
    logs: Mapping[str, bytes]
    problems: Mapping[str, bytes]
    database: Mapping[str, bytes]
    statuses: frozenset[int]


@pytest.fixture(scope="module")
async def traces(config: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traces]:
    """What is left of the canary's journey, its blunders and our failures: one process, logging all it can."""
    folder = tmp_path_factory.mktemp("privacy")
    uri, name = config.mongodb_uri.get_secret_value(), f"{config.mongodb_database}_privacy"
    save_keyring(folder / "data" / "keys" / "keyring.json", new_keyring("sandbox"))
    environment = {
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": uri,
        "YIKA_MONGODB_DATABASE": name,
        "YIKA_DATA_DIR": str(folder / "data"),
        "YIKA_LOG_LEVEL": "debug",
        "YIKA_QUERIES_PER_MINUTE": "100000",
    }
    async with Database(uri, name, deadline_seconds=10, pool=4) as database:
        with MongoClient[dict[str, Any]](uri) as client:
            await migrate(database, print)
            made = await _traces(environment, folder / "log", client, name)
        yield made
        await database.drop()


async def _traces(environment: Mapping[str, str], log: Path, mongo: MongoClient[dict[str, Any]], name: str) -> Traces:
    async with (
        collecting() as collector,
        worker({**environment, "YIKA_TRACES_ENDPOINT": collector.url}, log) as process,
        _Listening(process.url) as api,
    ):
        came = await _walk(api)
        # The journey itself is over when its messages are out, and is looked for as it lies there then.
        await api.messages(PEOPLE[CANARY].mobile)
        tokens = await api.tokens(CANARY, "face")
        client = api.as_(tokens["accessToken"])
        await _blunder(api, client)
        garbled = await _garble(process.url)
        database = dict(_lying(mongo, name))
        failed = await _break(client, mongo[name])
        assert {reply.status for reply in failed} == {500}
        await asyncio.sleep(1.5)
        async with Api(process.admin_url) as admin:
            metrics = (await admin.send("GET", "/metrics", checked=False)).raw
        await process.end()
        assert process.process.stdout is not None
        out = await process.process.stdout.read()
    came |= {"access token at last": tokens["accessToken"], "refresh token at last": tokens["refreshToken"]}
    refused = [reply for reply in api.heard if reply.status >= 400]
    return Traces(
        secrets=Secrets.of(_person(PEOPLE[CANARY]) | came | {f"operator's {k}": v for k, v in _staff(STAFF["bureau"]).items()}),
        logs={
            "standard error": log.read_bytes(),
            "standard output": out,
            "metrics": metrics,
            "traces": b"\n".join([*collector.raw, repr(collector.spans).encode()]),
        },
        problems={
            "problems": b"\n".join(reply.raw for reply in refused),
            "headers of problems": "\n".join(f"{name}: {value}" for r in refused for name, value in r.headers.items()).encode(),
            "answers to what is no HTTP": garbled,
        },
        database=database,
        statuses=frozenset(reply.status for reply in refused),
    )


def _lying(mongo: MongoClient[dict[str, Any]], name: str) -> Iterable[tuple[str, bytes]]:
    """Every byte of a database as it lies there: documents, indexes, and what the log of operations still knows."""
    assert mongo.address is not None
    raw: MongoClient[Any] = MongoClient(
        mongo.address[0], mongo.address[1], directConnection=True, document_class=RawBSONDocument
    )
    with raw:
        for collection in raw[name].list_collection_names():
            yield f"collection {collection}", b"".join(document.raw for document in raw[name][collection].find())
            yield f"indexes of {collection}", b"".join(bson.encode(index) for index in raw[name][collection].list_indexes())
        known = raw.local["oplog.rs"].find({"ns": {"$regex": f"^{name}[.]"}})
        yield "log of operations", b"".join(entry.raw for entry in known)


def test_the_canary_can_be_found_where_it_is() -> None:
    """A search that finds nothing anywhere proves nothing: it must find each secret in each of its spellings."""
    person = PEOPLE[CANARY]
    secrets = Secrets.of(_person(person) | {"one-time code": "314159"})
    for name, patterns in secrets.patterns.items():
        for pattern in patterns:
            assert f"{name} in here" in secrets.found_in({"here": b"before " + pattern + b" after"})
    encoded = base64.b64encode(f'{{"a":"{person.name}","b":"{person.id_number.number}"}}'.encode())
    assert secrets.found_in({"base64": encoded}) == ["ID number in base64", "name in base64"]
    assert secrets.found_in({"code": b'{"code":"314159"}'}) == ["one-time code in code"]
    assert secrets.found_in({"id": b"0af7651916cd43314159eb211c80319c"}) == []
    assert secrets.found_in({"nothing": b"110105********002X 138****8000 \xe7\x8e\x8b**"}) == []


def test_everything_that_can_go_wrong_went_wrong(traces: Traces) -> None:
    assert traces.statuses >= {400, 401, 403, 404, 405, 413, 415, 422, 429, 500}
    lines = [json.loads(line) for line in traces.logs["standard error"].splitlines()]
    assert {"request", "unexpected", "not_served"} <= {line["event"] for line in lines}
    assert len(lines) > 500


def test_nothing_of_the_canary_is_in_the_logs_the_metrics_and_the_traces(traces: Traces) -> None:
    assert b"yika_requests_total" in traces.logs["metrics"]
    assert traces.logs["traces"].count(b"POST /v1/activations") > 300
    assert b"send sms" in traces.logs["traces"]
    assert traces.secrets.found_in(traces.logs) == []


def test_nothing_of_the_canary_is_in_what_is_refused(traces: Traces) -> None:
    assert len(traces.problems["problems"]) > 100_000
    assert traces.secrets.found_in(traces.problems) == []


def test_nothing_of_anybody_lies_in_the_database_in_plain(traces: Traces) -> None:
    collections = {name.removeprefix("collection ") for name in traces.database if name.startswith("collection ")}
    filled = {name for name in collections if traces.database[f"collection {name}"]}
    assert filled >= {
        *("cards", "holders", "dependants", "accesses", "sessions", "verifications", "limits", "idempotency", "messages"),
        *("sandbox_messages", "sandbox_state", "migrations"),
    }
    everybody = {f"{key}'s {what}": secret for key, person in PEOPLE.items() for what, secret in _person(person).items()}
    everybody |= {f"{key}'s {what}": secret for key, one in STAFF.items() for what, secret in _staff(one).items()}
    assert traces.secrets.found_in(traces.database) == []
    assert Secrets.of(everybody).found_in(traces.database) == []
