"""The holder's copy: complete, in plain, theirs alone, and written down."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import ADULT, look_up, numbers
from api.personal_data import everything, values_of, vault_of
from pymongo import MongoClient

from service.config import Config
from service.exports import EXPORTS, MOST_ACCESSES
from service.ids import derived_id
from service.mongo.client import Database
from service.mongo.holdings import HOLDINGS, IMPERSONAL
from service.vault import Vault

SOMEBODY = "guardian"
EXPORT = "/v1/me/export"


async def export(client: Api, key: str = "new") -> Reply:
    return await client.post(EXPORT, {}, key=key)


@pytest.fixture
def vault(config: Config) -> Vault:
    return vault_of(config.keyring_path)


@pytest.fixture
def raw(config: Config, database: Database) -> Iterator[Any]:
    """The database as it lies there."""
    del database
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[config.mongodb_database]


@pytest.fixture
async def lived(api: Api) -> Api:
    """Somebody to whom much has happened, signed in just now."""
    client = await api.sign_in(SOMEBODY)
    person = await api.persona(SOMEBODY)
    card_id = person["cards"][0]["cardId"]
    bureau = await api.sign_in_staff("bureau")
    for path, body, who, key in (
        ("/v1/me/consents", {"purpose": "dependantEcard"}, client, True),
        ("/v1/me/contacts/email", {"email": "somebody@mail.example"}, client, True),
        ("/v1/me/reveal", {"fields": ["name", "idNumber", "mobile"]}, client, True),
        ("/v1/ecard", {}, client, True),
        ("/v1/ecard/codes", {}, client, False),
        (f"/v1/staff/cards/{card_id}/cancel", {"reason": "emigration", "materials": ADULT}, bureau, True),
    ):
        reply = await who.post(path, body, key="new" if key else None)
        assert reply.status < 300, (path, reply.raw)
    assert (await look_up(bureau, SOMEBODY)).status == 200
    hospital = await api.sign_in_staff("hospital")
    visit = {**await numbers(api, SOMEBODY), "kind": "outpatient"}
    assert (await hospital.post("/v1/staff/visits", visit, key="new")).status == 200
    assert (await client.get("/v1/housing-fund")).status == 200
    lost = await client.post(f"/v1/cards/{card_id}/loss", {"kind": "formal"}, key="new")
    assert lost.status == 200, lost.raw
    replaced = await client.post(f"/v1/cards/{card_id}/replacement", {"reason": "lost"}, key="new")
    assert replaced.status == 201, replaced.raw
    await api.messages(person["mobile"])
    return client


def told_of(raw: Any, vault: Vault, person: dict[str, Any]) -> set[str]:
    """The collections with a document about a person: one that names them by id, number, name, mobile or blind index."""
    own = derived_id("hld", SOMEBODY)
    secrets = {"id": own, "name": person["name"], "ID number": person["idNumber"], "mobile": person["mobile"]}
    return set(everything(raw, vault, secrets))


async def test_every_collection_that_knows_of_somebody_is_in_their_copy(api: Api, lived: Api, raw: Any, vault: Vault) -> None:
    person = await api.persona(SOMEBODY)
    about = told_of(raw, vault, person)
    assert about >= {
        *("accesses", "applications", "approvals", "cards", "consents", "contacts", "dependants", "ecards", "holders"),
        *("idempotency", "insurance", "last_known", "messages", "sessions", "verifications", "visits", "ecard_codes"),
    }
    words: dict[str, set[str]] = {}
    for holding in HOLDINGS:
        words.setdefault(holding.collection, set()).add(holding.word)
    assert about <= set(words) | set(IMPERSONAL), "no row of holdings.py speaks of it"
    there = {name for name in raw.list_collection_names() if not name.startswith(("sandbox_", "system.", "test_"))}
    assert there <= set(words) | set(IMPERSONAL), "holdings.py says of each whether it is about people"
    reply = await export(lived)
    assert reply.status == 200, reply.raw
    data = reply.json["data"]
    for collection in about - set(IMPERSONAL):
        told = words[collection] - {""}
        assert not told or any(data[word] for word in told), f"nothing of {collection} is in the copy"


async def test_the_copy_is_in_plain_and_holds_no_mark_and_nobody_else(api: Api, lived: Api) -> None:
    person = await api.persona(SOMEBODY)
    reply = await export(lived)
    data = reply.json["data"]
    (identity,) = data["identity"]
    assert identity == {
        "holderId": derived_id("hld", SOMEBODY),
        "name": person["name"],
        "idNumber": person["idNumber"],
        "mobile": person["mobile"],
        "regionCode": "990100",
        "householdRegister": person["householdRegister"],
    }
    (card,) = data["cards"]
    own = person["cards"][0]
    assert (card["cardNumber"], card["identificationCode"]) == (own["cardNumber"], own["identificationCode"])
    assert card["bank"]["account"].isdigit()
    assert [figure["account"] for figure in card["accounts"]] == ["medical", "pension", "housingFund"]
    assert card["history"][-1]["happening"] == "formalLossReported"
    assert {message["to"] for message in data["messages"]} <= {person["mobile"], "somebody@mail.example"}
    assert any("12333" in (message["text"] or "") for message in data["messages"])
    assert data["lookedUp"][0]["document"]
    (link,) = data["dependants"]
    assert link["holderId"] == "another"
    texts = [str(value) for value in values_of(data)]
    assert not any(text.startswith(("op_", "$argon2")) for text in texts)
    minor = await api.persona("minor")
    assert not any(secret in text for text in texts for secret in (minor["name"], minor["idNumber"]))


async def test_a_code_that_was_sent_is_nowhere_in_the_copy(api: Api) -> None:
    """A session reads the copy; it must not read second factors that went to the mobile and the mailbox."""
    client = await api.sign_in("sealed")
    await api.advance(61)
    asked = await client.post("/v1/me/contacts/email", {"email": "sealed@mail.example"}, key="new")
    assert asked.status < 300, asked.raw
    mobile = (await api.persona("sealed"))["mobile"]
    sent = [message for to in (mobile, "sealed@mail.example") for message in await api.messages(to) if message["code"]]
    assert {message["channel"] for message in sent} == {"sms", "email"}
    reply = await export(client)
    assert reply.status == 200, reply.raw
    told = reply.json["data"]["messages"]
    assert [message["messageId"] for message in told if message["text"] is None]
    texts = [str(value) for value in values_of(reply.json["data"])]
    for message in sent:
        assert not any(re.search(rf"(?<!\d){message['code']}(?!\d)", text) for text in texts)
    coded = [message for message in told if message["template"] in {one["template"] for one in sent}]
    assert len(coded) >= 2
    assert {(message["text"], message["subject"]) for message in coded} == {(None, None)}


async def test_it_is_written_down_before_and_told(api: Api) -> None:
    client = await api.sign_in("sealed")
    reply = await export(client)
    assert reply.json["partial"] == []
    (newest, *_) = [entry for entry in reply.json["data"]["accessLog"]["items"] if entry["action"] == "export"]
    assert (newest["by"], newest["channel"]) == ("self", "app")
    person = await api.persona("sealed")
    assert "data_exported" in {message["template"] for message in await api.messages(person["mobile"])}


async def test_each_copy_is_one_of_its_own_written_down_and_told(api: Api) -> None:
    client = await api.sign_in("sealed")
    first, another = await client.post(EXPORT, {}), await client.post(EXPORT, None)
    assert (first.status, another.status) == (200, 200)
    assert another.json["exportId"] != first.json["exportId"]
    entries = [entry["action"] for entry in another.json["data"]["accessLog"]["items"]]
    assert entries.count("export") == 2
    person = await api.persona("sealed")
    assert [m["template"] for m in await api.messages(person["mobile"])].count("data_exported") == 2


async def test_who_is_not_known_surely_and_just_now_gets_no_copy(api: Api) -> None:
    reply = await export(await api.sign_in("sealed", "password"))
    assert (reply.status, reply.code) == (403, "assurance_too_low")
    tokens = await api.tokens("sealed2")
    await api.advance(601)
    refreshed = await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})
    reply = await export(api.as_(refreshed.json["accessToken"]))
    assert (reply.status, reply.code, reply.json["reason"]) == (403, "assurance_too_low", "notFresh")


async def test_copies_are_not_made_all_day(api: Api) -> None:
    client = await api.sign_in("sealed")
    for _ in range(EXPORTS.most):
        assert (await export(client)).status == 200
    reply = await export(client)
    assert (reply.status, reply.code) == (429, "rate_limited")


async def test_a_long_log_goes_on_where_the_copy_ends(api: Api, database: Database) -> None:
    client = await api.sign_in("sealed")
    holder_id = derived_id("hld", "sealed")
    log = database.collection("accesses")
    (last,) = await log.find({}, sort=[("at", -1)], limit=1)
    more = [
        {**last, "_id": derived_id("acc", str(number)), "holderId": holder_id, "reason": str(number)}
        for number in range(MOST_ACCESSES)
    ]
    await log.insert_all(more)
    page = (await export(client)).json["data"]["accessLog"]
    assert (len(page["items"]), page["hasMore"]) == (MOST_ACCESSES, True)
    rest = (await client.get(f"/v1/me/access-log?limit=100&cursor={page['nextCursor']}")).json
    reasons = {entry["reason"] for entry in page["items"] + rest["items"]}
    assert reasons >= {str(number) for number in range(MOST_ACCESSES)}


async def test_an_operator_has_no_copy(api: Api) -> None:
    reply = await export(await api.sign_in_staff("bureau"))
    assert (reply.status, reply.code) == (403, "forbidden")
