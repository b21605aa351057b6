import asyncio
import base64
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from api.client import Api
from faults.workers import Worker, worker
from pymongo import MongoClient

from handlers.sandbox import SANDBOX_ROUTES
from service.clock import CHINA
from service.config import Config
from service.keyring import new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.mongo.sandbox import MongoSandboxStore
from service.numbers import NATIONAL_CARD_NUMBER, parse_card_number, parse_identification_code, parse_mobile, parse_resident_id
from service.regions import SHIPPED
from service.sandbox.invention import is_invented, is_invented_name, is_invented_region
from service.server import serving
from service.vault import Vault

HOLDERS = {
    *("sealed", "sealed2", "sealed3", "sealed4", "sealed5", "active", "temporarily-lost", "formally-lost", "locked"),
    *("cancelled", "not-delivered", "test-card", "frozen-medical", "cross-region", "not-interconnected", "two-generations"),
    *("hk-resident", "retired-region-id", "guardian", "minor", "unlinked-minor", "flexible-worker"),
}
OPERATORS = {
    *("bank-own", "bank-other", "hospital", "bureau", "bureau-supervisor", "bureau-supervisor2", "bureau2"),
    *("hotline", "employer", "employer2", "production"),
}


async def _personas(api: Api, language: str = "en") -> dict[str, dict[str, Any]]:
    items = (await api.get("/sandbox/personas", Accept_Language=language)).json["items"]
    assert len({item["key"] for item in items}) == len(items)
    return {item["key"]: item for item in items}


async def test_every_persona_of_the_contract_can_be_played(api: Api) -> None:
    personas = await _personas(api)
    assert {key for key, person in personas.items() if person["kind"] == "holder"} >= HOLDERS
    assert {key for key, person in personas.items() if person["kind"] == "operator"} == OPERATORS
    for person in personas.values():
        assert person["note"]
        assert is_invented_name(person["name"])
        if person["kind"] == "holder":
            number = parse_resident_id(person["idNumber"], today=datetime.now(CHINA).date())
            assert is_invented(number.number)
            assert parse_mobile(person["mobile"]) == person["mobile"]
            assert re.fullmatch(r"\d{6}", person["servicePin"])
            assert person["queryPassword"]
            assert person["householdRegister"]
            assert person["cards"]
            for card in person["cards"]:
                assert parse_identification_code(card["identificationCode"]).code == card["identificationCode"]
                assert card["identificationCode"].startswith(card["regionCode"])
                assert is_invented_region(card["regionCode"])
                if len(card["cardNumber"]) == 9:
                    assert parse_card_number(card["cardNumber"], NATIONAL_CARD_NUMBER) == card["cardNumber"]
        else:
            assert person["username"]
            assert person["password"]
            assert len(base64.b32decode(person["totpSecret"])) == 20
            assert person["institution"]["regionCodes"]
            assert person["idNumber"] is None


async def test_every_holder_signs_in_and_sees_the_cards_that_are_told(api: Api) -> None:
    for key, person in (await _personas(api)).items():
        if person["kind"] == "holder":
            client = await api.sign_in(key, "face")
            cards = (await client.get("/v1/cards")).json["items"]
            assert {card["cardId"] for card in cards} == {card["cardId"] for card in person["cards"]}


async def test_a_guardian_is_told_the_dependant_to_act_for(api: Api) -> None:
    person = await api.persona("guardian")
    (link,) = person["dependants"]
    assert link["key"] == "minor"
    guardian = await api.sign_in("guardian")
    reply = await guardian.activate(await api.details("minor") | {"onBehalfOf": link["dependantId"]})
    assert (reply.status, reply.json["result"]) == (200, "activated")


async def test_notes_are_told_in_the_callers_language(api: Api) -> None:
    english, chinese = await _personas(api, "en"), await _personas(api, "zh-CN")
    assert all(english[key]["note"] != chinese[key]["note"] for key in english)
    hidden = {"note", "institution"}
    for key in english:
        assert {k: v for k, v in english[key].items() if k not in hidden} == {
            k: v for k, v in chinese[key].items() if k not in hidden
        }


# Messages.


async def test_messages_are_found_newest_first_with_their_code_and_nobody_elses(api: Api) -> None:
    person = await api.persona("sealed")
    client = await api.sign_in("sealed")
    await api.start("active")
    await client.activate(await api.details("sealed"))
    await api.advance(60)
    await api.start("sealed")
    items = await api.messages(person["mobile"])
    assert [item["template"] for item in items] == ["verification_code", "card_activated", "new_device", "verification_code"]
    for item in items:
        assert (item["channel"], item["to"]) == ("sms", person["mobile"])
        assert (item["code"] is None) is (item["template"] in {"card_activated", "new_device"})
        assert item["code"] is None or (re.fullmatch(r"\d{6}", item["code"]) and item["code"] in item["text"])


async def test_a_mobile_is_found_as_people_write_it_and_what_is_none_is_refused(api: Api) -> None:
    await api.start("active")
    mobile = (await api.persona("active"))["mobile"]
    assert len(await api.messages(f"+86 {mobile[:3]} {mobile[3:]}")) == 1
    for nobody in ("13800138000", "nobody@example.com", "12345"):
        assert await api.messages(nobody) == []
    for body in ({}, {"to": 15400000000}, {"to": "1" * 129}, {"to": mobile, "more": 1}):
        assert (await api.post("/sandbox/messages/search", body)).status == 422


async def test_a_message_is_written_in_the_language_of_who_asked(api: Api) -> None:
    person = await api.persona("active")
    body = {"method": "sms", "name": person["name"], "idNumber": person["idNumber"], "mobile": person["mobile"]}
    for language, word in (("en", "code"), ("zh-CN", "验证码")):
        reply = await api.post("/v1/identity/verifications", body, headers={"Accept-Language": language})
        assert reply.status == 201
        assert word in (await api.messages(person["mobile"]))[0]["text"]
        await api.advance(60)


# The clock.


async def test_the_clock_moves_forward_and_shows_in_everything(api: Api) -> None:
    before = datetime.now(UTC)
    moved = (await api.post("/sandbox/clock", {"advanceSeconds": 3600})).json
    assert moved["offsetSeconds"] == 3600
    assert timedelta(0) <= datetime.fromisoformat(moved["now"]) - before - timedelta(hours=1) < timedelta(seconds=10)
    started = await api.start("active", "password")
    assert datetime.fromisoformat(started["expiresAt"]) - before > timedelta(hours=1)
    tokens = await api.tokens("active", "face")
    issued = jwt.decode(tokens["accessToken"], options={"verify_signature": False})["iat"]
    assert issued - before.timestamp() >= 3599
    assert (await api.post("/sandbox/clock", {"advanceSeconds": 0})).json["offsetSeconds"] == 3600


@pytest.mark.parametrize("seconds", [-1, 315_619_201, 1.5, "60", None, True])
async def test_a_clock_is_never_moved_back_nor_too_far(api: Api, seconds: Any) -> None:
    reply = await api.post("/sandbox/clock", {"advanceSeconds": seconds})
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "advanceSeconds")
    assert (await api.post("/sandbox/clock", {"advanceSeconds": 0})).json["offsetSeconds"] == 0


async def test_ten_years_are_the_end_of_it_also_in_small_steps(api: Api) -> None:
    assert (await api.post("/sandbox/clock", {"advanceSeconds": 315_619_200})).status == 200
    reply = await api.post("/sandbox/clock", {"advanceSeconds": 1})
    assert (reply.status, reply.json["errors"][0]["code"]) == (422, "not_allowed")


# Reset.


async def test_a_reset_brings_everything_back_and_leaves_sessions(api: Api) -> None:
    client = await api.sign_in("sealed")
    mobile = (await api.persona("sealed"))["mobile"]
    card = (await api.persona("sealed"))["cards"][0]["cardId"]
    before = (await client.get(f"/v1/cards/{card}")).json
    personas = await _personas(api)
    done = await client.activate(await api.details("sealed"), "again")
    await client.post("/v1/me/reveal", {"fields": ["name"]}, key="new")
    for _ in range(5):
        await client.activate(await api.details("sealed2"))
    assert (await client.activate(await api.details("sealed2"))).code == "too_many_attempts"
    await api.post("/sandbox/faults", {"gateway": "sms", "fault": "unavailable", "times": 100})
    await api.advance(60)
    reply = await api.post("/sandbox/reset")
    assert reply.json["personas"] == len(personas)
    assert abs(datetime.fromisoformat(reply.json["now"]) - datetime.now(UTC)) < timedelta(seconds=10)
    assert await _personas(api) == personas
    assert await api.messages(mobile) == []
    assert (await client.get(f"/v1/cards/{card}")).json == before
    assert (await client.get(f"/v1/cards/{card}/history")).json["items"] == []
    assert (await client.get(f"/v1/activations/{done.json['activationId']}")).code == "not_found"
    assert await client.accesses() == []
    again = await client.activate(await api.details("sealed"), "again")
    assert (again.json["result"], again.headers.get("Idempotency-Replayed")) == ("activated", None)
    assert [message["template"] for message in await api.messages(mobile)] == ["card_activated"]
    assert (await client.activate(await api.details("sealed2"))).code == "card_details_mismatch"


async def test_a_reset_in_two_processes_at_once_brings_everybody_back(api: Api, config: Config) -> None:
    async with serving(config) as other, Api(other.url) as there:
        replies = await asyncio.gather(*((api, there)[n % 2].post("/sandbox/reset") for n in range(8)))
        assert {reply.status for reply in replies} == {200}
        for key in ("sealed", "two-generations"):
            client = await there.sign_in(key, "face")
            assert len((await client.get("/v1/cards")).json["items"]) == len((await api.persona(key))["cards"])


# Failures of outside systems, as an integrator asks for them.


async def test_a_face_that_is_rejected_is_a_failed_verification_and_the_next_passes(api: Api) -> None:
    assert (await api.post("/sandbox/faults", {"gateway": "face", "fault": "rejected", "times": 1})).json == {
        "gateway": "face",
        "fault": "rejected",
        "times": 1,
    }
    started = await api.start("active", "face")
    path = f"/v1/identity/verifications/{started['verificationId']}/confirm"
    refused = await api.post(path)
    assert (refused.status, refused.code, refused.json["triesLeft"]) == (403, "verification_failed", 4)
    assert (await api.post(path)).status == 200


@pytest.mark.parametrize("fault", ["unavailable", "uncertain"])
async def test_a_face_provider_that_is_away_is_told_and_used_up_one_by_one(api: Api, fault: str) -> None:
    await api.post("/sandbox/faults", {"gateway": "face", "fault": fault, "times": 2})
    person = await api.persona("active")
    body = {"method": "face", "name": person["name"], "idNumber": person["idNumber"]}
    replies = [await api.post("/v1/identity/verifications", body) for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 503, 201]
    assert (replies[0].code, replies[0].headers["Retry-After"]) == ("unavailable", "2")


async def test_the_page_of_the_face_provider_is_there_for_a_certification_and_for_nothing_else(api: Api) -> None:
    started = await api.start("active", "face")
    path = started["certifyUrl"].removeprefix(api.url)
    assert (await api.get(path)).json["status"] == "passed"
    assert (await api.get("/sandbox/face/nonsense")).code == "not_found"


async def test_a_fault_replaces_the_one_before(api: Api) -> None:
    await api.post("/sandbox/faults", {"gateway": "face", "fault": "unavailable", "times": 100})
    await api.post("/sandbox/faults", {"gateway": "face", "fault": "rejected", "times": 1})
    started = await api.start("active", "face")
    assert (await api.post(f"/v1/identity/verifications/{started['verificationId']}/confirm")).status == 403
    await api.tokens("active", "face")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gateway": "fax"}, "gateway"),
        ({"fault": "explode"}, "fault"),
        ({"times": 0}, "times"),
        ({"times": 101}, "times"),
        ({"until": 1}, "until"),
    ],
)
async def test_a_fault_that_is_none_is_refused(api: Api, changes: dict[str, Any], field: str) -> None:
    reply = await api.post("/sandbox/faults", {"gateway": "sms", "fault": "slow", "times": 1} | changes)
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, field)


async def test_an_address_has_a_hundred_times_more_room_here_and_a_person_has_not(api: Api) -> None:
    keys = [key for key, person in (await _personas(api)).items() if person["kind"] == "holder"][:12]
    for _ in range(3):
        started = await asyncio.gather(*(api.start(key, "password") for key in keys))
        assert len(started) == 12
    person = await api.persona(keys[0])
    body = {"method": "password", "name": person["name"], "idNumber": person["idNumber"]}
    assert [(await api.post("/v1/identity/verifications", body)).status for _ in range(3)] == [201, 201, 429]


# Who puts the people there.


@pytest.fixture
async def own(config: Config) -> AsyncIterator[tuple[Database, Vault]]:
    name = f"{config.mongodb_database}_{secrets.token_hex(4)}"
    ring = new_keyring("sandbox")
    vault = Vault(lambda: ring)
    async with Database(config.mongodb_uri.get_secret_value(), name, deadline_seconds=10, pool=8) as database:
        yield database, vault
        await database.drop()


LEASE = timedelta(seconds=15)


async def test_of_many_who_would_put_the_people_there_one_does_and_the_rest_wait(own: tuple[Database, Vault]) -> None:
    store, now = MongoSandboxStore(*own), datetime.now(UTC)
    claims = await asyncio.gather(*(store.claim_seeding("first", now, LEASE) for _ in range(20)))
    assert claims.count(True) == 1
    assert claims.count(None) == 19
    assert await store.claim_seeding("first", now + LEASE, LEASE) is True
    await store.seeded("first")
    assert await store.claim_seeding("first", now + 2 * LEASE, LEASE) is False


async def test_a_later_edition_is_put_there_whoever_brought_the_last(own: tuple[Database, Vault]) -> None:
    store, now = MongoSandboxStore(*own), datetime.now(UTC)
    # A reset brings an edition too, perhaps before anybody asked to be the one who does.
    await store.seeded("first")
    assert await store.claim_seeding("first", now, LEASE) is False
    assert await store.claim_seeding("second", now, LEASE) is True
    assert await store.claim_seeding("second", now, LEASE) is None


# Anywhere else.


@pytest.fixture(scope="module")
async def production(config: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A process in production, with a region that is not invented: only its code is another."""
    folder = tmp_path_factory.mktemp("production")
    (folder / "regions").mkdir()
    pack = (SHIPPED / "990100.toml").read_text(encoding="utf-8").replace('code = "990100"', 'code = "010100"')
    (folder / "regions" / "010100.toml").write_text(pack, encoding="utf-8")
    save_keyring(folder / "keyring.json", new_keyring("production"))
    name = f"{config.mongodb_database}_production"
    environment = {
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": name,
        "YIKA_ISSUER": "https://hr.example",
        "YIKA_REGIONS_DIR": str(folder / "regions"),
        "YIKA_DEFAULT_REGION": "010100",
        "YIKA_KEYRING": str(folder / "keyring.json"),
    }
    async with Database(config.mongodb_uri.get_secret_value(), name, deadline_seconds=10, pool=4) as database:
        await migrate(database, print)
        async with worker(environment, folder / "log") as made:
            yield made
        await database.drop()
    shutil.rmtree(folder)


@pytest.fixture
async def real(production: Worker, api: Api) -> AsyncIterator[Api]:
    """A client of production; the sandbox's is there so that its document is the one answers are held against."""
    del api
    async with Api(production.url) as client:
        yield client


@pytest.mark.parametrize("route", SANDBOX_ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_outside_a_sandbox_nobody_can_tell_that_there_is_one(real: Api, route: Any) -> None:
    path = route.path.replace("{reference}", "face_aaaaaaaaaaaaaaaaaaaaaaaa")
    unknown = "/sandbux/personas"
    for method in ("GET", "POST", "PUT", "OPTIONS"):
        seen = [
            await real.send(method, where, data=b"{}", headers={"Content-Type": "application/json"}, checked=False)
            for where in (path, unknown)
        ]
        assert [(reply.status, reply.code) for reply in seen] == [(404, "not_found")] * 2
        bodies = [{name: value for name, value in reply.json.items() if name != "requestId"} for reply in seen]
        assert bodies[0] == bodies[1]
        assert seen[0].headers.keys() == seen[1].headers.keys()


async def test_documents_for_people_and_metrics_are_on_the_admin_port_alone(real: Api, production: Worker) -> None:
    for path in ("/docs", "/metrics"):
        assert (await real.send("GET", path, checked=False)).code == "not_found"
    document = (await real.send("GET", "/openapi.json", checked=False)).json
    assert [path for path in document["paths"] if path.startswith("/sandbox") or path in {"/docs", "/metrics"}] == []
    async with Api(production.admin_url) as admin:
        docs = await admin.send("GET", "/docs", checked=False)
        assert (docs.status, docs.headers["Content-Type"].split(";")[0]) == (200, "text/html")
        metrics = await admin.send("GET", "/metrics", checked=False)
        assert b"yika_requests_total" in metrics.raw
        assert b"sandbox" not in metrics.raw
        assert (await admin.send("GET", "/readyz", checked=False)).status == 200
        for path in ("/v1/regions", "/sandbox/personas", "/v1/me"):
            assert (await admin.send("GET", path, checked=False)).code == "not_found"


async def test_production_serves_its_own_regions_and_has_no_personas(real: Api) -> None:
    regions = (await real.get("/v1/regions", checked=False)).json["items"]
    assert [region["code"] for region in regions] == ["010100"]
    assert (await real.get("/v1/pages/home", checked=False)).status == 200
    person = {"name": "王假安", "idNumber": "11010519491231002X", "mobile": "13800138000"}
    started = await real.post("/v1/identity/verifications", {"method": "sms", **person}, checked=False)
    assert started.status == 201
    path = f"/v1/identity/verifications/{started.json['verificationId']}/confirm"
    assert (await real.post(path, {"code": "123456"}, checked=False)).code == "verification_failed"


async def test_production_keeps_nothing_that_belongs_to_a_sandbox(real: Api, config: Config) -> None:
    del real
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value()) as client:
        names = client[f"{config.mongodb_database}_production"].list_collection_names()
    assert "cards" in names
    assert [name for name in names if name.startswith("sandbox")] == []


async def test_a_code_that_has_expired_is_not_sent_any_more(api: Api) -> None:
    person = await api.persona("active")
    await api.post("/sandbox/faults", {"gateway": "sms", "fault": "unavailable", "times": 1})
    await api.start("active")
    assert await api.messages(person["mobile"]) == []
    await api.advance(301)
    # Due again long ago, and no use any more.
    await asyncio.sleep(1.5)
    assert await api.messages(person["mobile"]) == []
    await api.start("active")
    assert len(await api.messages(person["mobile"])) == 1
