"""Being forgotten: what is in the way, that everything goes, and that nobody is found afterwards."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import look_up
from api.personal_data import everything, vault_of
from pymongo import MongoClient

from service.config import Config
from service.ids import derived_id
from service.keyring import Keys
from service.ledger_checks import LedgerChecks
from service.mongo.client import Database
from service.mongo.holdings import HOLDINGS
from service.mongo.ledger import MongoLedgerStore
from service.tokens import Tokens
from service.vault import Vault

ERASURE = "/v1/me/erasure"
# The one whose card is cancelled and whom nothing else keeps.
SOMEBODY = "cancelled"
LEFT = 120


async def erase(client: Api, key: str = "new") -> Reply:
    return await client.post(ERASURE, {}, key=key)


@pytest.fixture
def vault(config: Config) -> Vault:
    return vault_of(config.keyring_path)


@pytest.fixture
def raw(config: Config, database: Database) -> Iterator[Any]:
    """The database as it lies there."""
    del database
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[config.mongodb_database]


async def until(raw: Any, step: str) -> None:
    """Wait until the erasure has come to a step."""
    for _ in range(600):
        if raw.erasures.find_one({"holderId": derived_id("hld", SOMEBODY), "step": step}):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the erasure never came to {step}")


async def until_forgotten(raw: Any) -> None:
    """Wait until the ledger has let go of them."""
    own = derived_id("hld", SOMEBODY)
    for _ in range(600):
        if not raw.accesses.find_one({"holderId": own}) and not raw.ledger_subjects.find_one({"_id": own}):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the log still knows them")


async def carried_out(api: Api, raw: Any) -> None:
    """Wait until an erasure is done, both sweeps and the ledger's part."""
    await until(raw, "swept")
    await api.advance(LEFT)
    await until(raw, "done")
    await until_forgotten(raw)


async def live_a_little(api: Api) -> Api:
    """What leaves traces of somebody with a cancelled card."""
    client = await api.sign_in(SOMEBODY)
    for path, body, keyed in (
        ("/v1/me/reveal", {"fields": ["name", "idNumber", "mobile"]}, True),
        ("/v1/me/export", {}, True),
        ("/v1/me/contacts/email", {"email": "somebody@mail.example"}, True),
    ):
        reply = await client.post(path, body, key="new" if keyed else None)
        assert reply.status < 300, reply.raw
    for path in ("/v1/cards", "/v1/me", "/v1/housing-fund"):
        assert (await client.get(path)).status == 200
    assert (await look_up(await api.sign_in_staff("bureau"), SOMEBODY)).status == 200
    await api.messages((await api.persona(SOMEBODY))["mobile"])
    return client


def secrets_of(person: dict[str, Any]) -> dict[str, str]:
    card = person["cards"][0]
    return {
        "name": person["name"],
        "ID number": person["idNumber"],
        "mobile": person["mobile"],
        "household register": person["householdRegister"],
        "card number": card["cardNumber"],
        "identification code": card["identificationCode"],
        "email": "somebody@mail.example",
    }


async def test_afterwards_nothing_in_the_database_tells_of_them(api: Api, raw: Any, vault: Vault) -> None:
    person = await api.persona(SOMEBODY)
    client = await live_a_little(api)
    own = derived_id("hld", SOMEBODY)
    before = everything(raw, vault, secrets_of(person) | {"id": own})
    assert set(before) >= {"holders", "cards", "messages", "verifications", "idempotency", "contacts", "accesses", "last_known"}
    assert before["idempotency"] >= {"name", "ID number", "mobile"}
    reply = await erase(client)
    assert reply.status == 202, reply.raw
    await carried_out(api, raw)
    assert everything(raw, vault, secrets_of(person)) == {}
    left = set(everything(raw, vault, {"id": own}))
    assert left <= {"erasures", *(holding.collection for holding in HOLDINGS if holding.fate in {"kept", "emptied"})}


async def test_the_chain_is_whole_before_and_after(api: Api, raw: Any, config: Config, database: Database) -> None:
    keys = Keys(config.keyring_path)
    tokens = Tokens(lambda: keys.ring, config.issuer, config.audience)
    checks = LedgerChecks(MongoLedgerStore(database), tokens.read_checkpoint)
    client = await live_a_little(api)
    own = derived_id("hld", SOMEBODY)
    while raw.accesses.find_one({"holderId": own, "chained": {"$exists": False}}):
        await asyncio.sleep(0.05)
    before = await checks.check([], lambda *_: None)
    assert before.findings == ()
    assert before.links >= raw.accesses.count_documents({"holderId": own}) >= 5
    assert (await erase(client)).status == 202
    await carried_out(api, raw)
    after = await checks.check([], lambda *_: None)
    assert after.findings == ()
    # What was there is there still, and the erasure itself besides.
    assert after.links > before.links


async def test_nobody_else_lost_anything(api: Api, raw: Any, vault: Vault) -> None:
    bystander = await api.persona("active")
    await api.sign_in("active")
    own = {"id": derived_id("hld", "active"), "name": bystander["name"], "ID number": bystander["idNumber"]}
    await api.messages(bystander["mobile"])

    def theirs() -> dict[str, int]:
        return {name: raw[name].count_documents({"holderId": own["id"]}) for name in raw.list_collection_names()}

    before, known = theirs(), everything(raw, vault, own)
    assert (await erase(await api.sign_in(SOMEBODY))).status == 202
    await carried_out(api, raw)
    after = theirs()
    assert {name: count for name, count in after.items() if count} == {name: count for name, count in before.items() if count}
    assert set(everything(raw, vault, own)) >= set(known)


async def test_every_session_is_over_at_once(api: Api) -> None:
    elsewhere = await api.sign_in(SOMEBODY, "password")
    client = await api.sign_in(SOMEBODY)
    assert (await erase(client, "one")).status == 202
    for who in (client, elsewhere):
        reply = await who.get("/v1/me")
        assert (reply.status, reply.code) == (401, "token_revoked")
    # Also for who did not hear the answer: that is how they find out.
    assert (await erase(client, "one")).code == "token_revoked"


async def test_who_was_erased_and_comes_again_is_nobody(api: Api, raw: Any) -> None:
    person = await api.persona(SOMEBODY)
    assert (await erase(await api.sign_in(SOMEBODY))).status == 202
    await carried_out(api, raw)
    started = await api.start(SOMEBODY, "password")
    reply = await api.post(
        f"/v1/identity/verifications/{started['verificationId']}/confirm", {"password": person["queryPassword"]}
    )
    assert (reply.status, reply.code) == (403, "verification_failed")
    bureau = await api.sign_in_staff("bureau")
    assert (await look_up(bureau, SOMEBODY, reason="complaint")).status == 404


async def test_they_are_told_before_everything_goes(api: Api) -> None:
    person = await api.persona(SOMEBODY)
    assert (await erase(await api.sign_in(SOMEBODY))).status == 202
    templates = [message["template"] for message in await api.messages(person["mobile"])]
    assert templates.count("erasure_asked") == 1


@pytest.mark.parametrize(
    ("key", "reason"),
    [("sealed", "cardInUse"), ("locked", "cardInUse"), ("flexible-worker", "cardInUse"), ("guardian", "cardInUse")],
)
async def test_a_card_that_is_not_cancelled_is_in_the_way(api: Api, key: str, reason: str) -> None:
    client = await api.sign_in(key)
    reply = await erase(client)
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "erasure_not_allowed", reason)
    assert (await client.get("/v1/me")).status == 200


async def test_a_running_application_and_a_running_insurance_are_in_the_way(api: Api, raw: Any) -> None:
    client = await api.sign_in(SOMEBODY)
    own = derived_id("hld", SOMEBODY)
    applied = await client.post(
        "/v1/applications", {"bank": "B901", "informationConfirmed": True, "photoConfirmed": True}, key="new"
    )
    assert applied.status == 201, applied.raw
    assert (await erase(client)).json["reason"] == "applicationRunning"
    raw.applications.update_one({"holderId": own}, {"$set": {"stage": "rejected"}, "$unset": {"running": ""}})
    raw.applications.update_one({"holderId": own}, {"$set": {"stages.0.stage": "rejected"}})
    insured = await client.post("/v1/insurance/registrations", {"insurances": ["medical"]}, key="new")
    assert insured.status == 200, insured.raw
    assert (await erase(client)).json["reason"] == "insuranceRunning"
    assert (await client.get("/v1/me")).status == 200


async def test_an_operator_and_who_is_not_known_surely_erase_nobody(api: Api) -> None:
    reply = await erase(await api.sign_in(SOMEBODY, "password"))
    assert (reply.status, reply.code) == (403, "assurance_too_low")
    reply = await erase(await api.sign_in_staff("bureau"))
    assert (reply.status, reply.code) == (403, "forbidden")
