"""The hotline: a code for a caller, and what it is good for."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import activate, card_of, made_up_id_number, numbers, told, written

from service.config import Config
from service.keyring import load_keyring
from service.mongo.client import Database
from service.server import Served, serving
from service.vault import Vault

CODES = "/v1/staff/hotline/codes"
TICKET = "T20261122-0042"


@pytest.fixture
async def agent(api: Api) -> Api:
    return await api.sign_in_staff("hotline")


@pytest.fixture
async def second(config: Config, served: Served) -> AsyncIterator[Served]:
    """Another process, as far as the database can tell."""
    del served
    async with serving(config) as running:
        yield running


async def send(agent: Api, key: str, ticket: str = TICKET) -> Reply:
    person = await agent.persona(key)
    return await agent.post(CODES, {"idNumber": person["idNumber"], "ticket": ticket})


async def code_of(api: Api, key: str) -> str:
    """The newest code of the hotline that a persona was sent."""
    person = await api.persona(key)
    codes = [message["code"] for message in await api.messages(person["mobile"]) if message["template"] == "hotline_code"]
    return str(codes[0])


async def called(agent: Api, key: str) -> str:
    """A code that was sent to a caller and is read back."""
    assert (await send(agent, key)).status == 200
    return await code_of(agent, key)


async def by_phone(agent: Api, key: str, idempotency_key: str = "new", **more: Any) -> Reply:
    return await activate(agent, key, idempotency_key, **{"materials": [], "ticket": TICKET, **more})


def other_than(code: str, number: int = 1) -> str:
    return f"{(int(code) + number) % 1_000_000:06d}"


async def test_a_caller_reads_a_code_back_and_the_card_is_active(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    done = await by_phone(agent, "sealed", code=code)
    assert done.status == 200, done.raw
    assert (done.json["result"], done.json["channel"]) == ("activated", "hotline")
    assert await told(api, "sealed") == ["card_activated", "hotline_code"]
    assert await written(api, "sealed") == [
        ("activate", "hotlineAgent", "hotline", None, TICKET),
        ("sendCode", "hotlineAgent", "hotline", None, TICKET),
    ]


async def test_without_ticket_and_code_nothing_is_done(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    for field in ("ticket", "code"):
        given: dict[str, Any] = {"code": code, field: None}
        reply = await by_phone(agent, "sealed", **given)
        assert (reply.status, reply.code) == (422, "invalid_request")
        assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [(field, "missing")]
    assert (await card_of(api, "sealed"))["status"] == "sealed"
    assert (await by_phone(agent, "sealed", code=code)).json["result"] == "activated"


async def test_five_wrong_codes_lock_it_also_for_the_right_one(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    replies = [await by_phone(agent, "sealed", code=other_than(code)) for _ in range(5)]
    assert [(reply.status, reply.code, reply.json["triesLeft"]) for reply in replies] == [
        (403, "verification_failed", left) for left in (4, 3, 2, 1, 0)
    ]
    for one in (code, other_than(code)):
        locked = await by_phone(agent, "sealed", code=one)
        assert (locked.status, locked.code) == (403, "verification_locked")
    assert (await card_of(api, "sealed"))["status"] == "sealed"


async def test_of_many_guesses_at_once_over_two_processes_five_are_judged(api: Api, agent: Api, second: Served) -> None:
    code = await called(agent, "sealed")
    guesses = [other_than(code, number) for number in range(1, 41)]
    guesses.insert(20, code)
    async with Api(second.url) as there:
        clients = (agent, there.as_(agent.token))
        replies = await asyncio.gather(*(by_phone(clients[n % 2], "sealed", code=guess) for n, guess in enumerate(guesses)))
    codes = Counter("done" if reply.status == 200 else reply.code for reply in replies)
    assert codes["verification_failed"] + codes["done"] <= 5
    assert codes["done"] <= 1
    assert set(codes) <= {"done", "verification_failed", "verification_locked", "verification_used"}
    assert (await card_of(api, "sealed"))["version"] == codes["done"]


async def test_a_code_is_for_one_call_of_one_agent_about_one_person(api: Api, agent: Api, database: Database) -> None:
    code = await called(agent, "sealed")
    other_call = await by_phone(agent, "sealed", code=code, ticket="T20261122-0043")
    assert (other_call.status, other_call.code) == (410, "verification_expired")
    other_person = await by_phone(agent, "sealed2", code=code)
    assert (other_person.status, other_person.code) == (410, "verification_expired")
    # The bureau's clerk changes place and is an agent now.
    clerk = await api.persona("bureau")
    me = await (await api.sign_in_staff("bureau")).get("/v1/staff/me")
    operators = database.collection("operators")
    await operators.update({"_id": me.json["operatorId"]}, {"$set": {"role": "hotlineAgent"}})
    assert clerk["role"] == "bureauClerk"
    colleague = await api.sign_in_staff("bureau")
    other_agent = await by_phone(colleague, "sealed", code=code)
    assert (other_agent.status, other_agent.code) == (410, "verification_expired")
    # None of that was a try.
    assert (await by_phone(agent, "sealed", code=other_than(code))).json["triesLeft"] == 4
    assert (await by_phone(agent, "sealed", code=code)).json["result"] == "activated"


async def test_a_code_is_over_after_five_minutes(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    await api.advance(301)
    expired = await by_phone(agent, "sealed", code=code)
    assert (expired.status, expired.code) == (410, "verification_expired")


async def test_a_new_code_voids_the_old_one(api: Api, agent: Api) -> None:
    old = await called(agent, "sealed")
    early = await send(agent, "sealed")
    assert (early.status, early.code) == (429, "rate_limited")
    assert 1 <= int(early.headers["Retry-After"]) <= 60
    await api.advance(61)
    new = await called(agent, "sealed")
    if old != new:
        assert (await by_phone(agent, "sealed", code=old)).json["triesLeft"] == 4
    assert (await by_phone(agent, "sealed", code=new)).status == 200


async def test_a_code_is_used_up_by_what_it_was_read_back_for(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    first = await by_phone(agent, "sealed", "one-key", code=code)
    again = await by_phone(agent, "sealed", "one-key", code=code)
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    used = await by_phone(agent, "sealed", code=code)
    assert (used.status, used.code) == (409, "verification_used")
    assert await told(api, "sealed") == ["card_activated", "hotline_code"]


async def test_a_code_for_which_nothing_was_done_is_still_good(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    mistyped = await by_phone(agent, "sealed", code=code, cardNumber=(await numbers(api, "sealed2"))["cardNumber"])
    assert (mistyped.status, mistyped.code) == (422, "card_details_mismatch")
    assert (await by_phone(agent, "sealed", code=code)).json["result"] == "activated"


async def test_the_same_request_may_come_again_with_its_code(api: Api, agent: Api, database: Database) -> None:
    """As after a process that died before it could write its answer down: the lease is over, and nobody knows."""
    code = await called(agent, "sealed")
    first = await by_phone(agent, "sealed", "one-key", code=code)
    keys = database.collection("idempotency")
    documents = await keys.find({"answer": {"$ne": None}}, limit=10)
    (key,) = [document for document in documents if document["answer"]["mediaType"] == "application/json"]
    await keys.update({"_id": key["_id"]}, {"$set": {"answer": None, "leaseUntil": key["since"]}})
    await api.advance(400)
    again = await by_phone(agent, "sealed", "one-key", code=code)
    assert (again.status, {**again.json, "receipt": ""}) == (200, {**first.json, "receipt": ""})
    assert (await card_of(api, "sealed"))["version"] == 1


async def test_the_hotline_activates_no_account_and_for_no_minor(api: Api, agent: Api) -> None:
    code = await called(agent, "sealed")
    bank = await by_phone(agent, "sealed", code=code, functions=["social", "bank"])
    assert (bank.status, bank.code, bank.json["channels"]) == (403, "channel_not_allowed", ["bank"])
    guardian = await api.persona("guardian")
    there = {"idNumber": guardian["idNumber"], "householdRegister": guardian["householdRegister"]}
    code = await called(agent, "unlinked-minor")
    minor = await by_phone(agent, "unlinked-minor", code=code, guardian=there)
    assert (minor.status, minor.code) == (403, "channel_not_allowed")
    assert "hotline" not in minor.json["channels"]


@pytest.mark.parametrize("who", ["nobody", "not-interconnected"])
async def test_whether_there_is_such_a_person_is_not_told(api: Api, agent: Api, who: str) -> None:
    known = await send(agent, "sealed")
    number = made_up_id_number(7) if who == "nobody" else (await api.persona(who))["idNumber"]
    body = {"idNumber": number, "ticket": TICKET}
    unknown = await agent.post(CODES, body)
    assert (unknown.status, unknown.json.keys(), {*unknown.headers}) == (200, known.json.keys(), {*known.headers})
    twice = [await agent.post(CODES, body), await send(agent, "sealed")]
    assert [(reply.status, reply.code) for reply in twice] == [(429, "rate_limited")] * 2
    typed = {"cardNumber": "A00000009", "idNumber": number, "code": "123456"}
    failed = [await by_phone(agent, "sealed", **typed) for _ in range(5)]
    assert [reply.json["triesLeft"] for reply in failed] == [4, 3, 2, 1, 0]
    assert (await by_phone(agent, "sealed", **typed)).code == "verification_locked"
    if who != "nobody":
        assert await told(api, who) == []


async def test_a_code_that_nobody_was_sent_is_never_right(agent: Api, config: Config, database: Database) -> None:
    """Read out of the database with the keys of the service, as nobody can."""
    ring = load_keyring(config.keyring_path)
    vault = Vault(lambda: ring)
    assert (await send(agent, "not-interconnected")).status == 200
    (kept,) = await database.collection("messages").find({"template": "hotline_code"}, limit=10)
    code = vault.open("messages", "code", kept["_id"], kept["code"])
    reply = await by_phone(agent, "not-interconnected", code=code)
    assert (reply.status, reply.code, reply.json["triesLeft"]) == (403, "verification_failed", 4)


@pytest.mark.alone
async def test_a_code_takes_the_same_time_for_nobody(agent: Api, database: Database) -> None:
    """Each is asked for anew; a difference of a whole look-up would be a millisecond or more."""
    limits = database.collection("limits")
    took: dict[str, list[float]] = {"known": [], "nobody": []}
    known = (await agent.persona("sealed"))["idNumber"]
    for _ in range(25):
        for who, number in (("known", known), ("nobody", made_up_id_number(8))):
            await limits.delete_all()
            began = time.perf_counter()
            reply = await agent.post(CODES, {"idNumber": number, "ticket": TICKET})
            took[who].append(time.perf_counter() - began)
            assert reply.status == 200
    medians = {who: statistics.median(times) for who, times in took.items()}
    assert abs(medians["known"] - medians["nobody"]) < max(0.004, 0.3 * max(medians.values())), medians


async def test_a_mobile_that_has_had_enough_texts_gets_none_and_nobody_is_told(api: Api, agent: Api) -> None:
    await api.start("sealed")
    assert (await send(agent, "sealed")).status == 200
    assert "hotline_code" not in await told(api, "sealed")
    await api.advance(61)
    code = await called(agent, "sealed")
    assert (await by_phone(agent, "sealed", code=code)).status == 200


@pytest.mark.parametrize("key", ["bank-own", "hospital", "bureau", "bureau-supervisor", "employer", "production"])
async def test_only_the_hotline_sends_codes(api: Api, key: str) -> None:
    reply = await send(await api.sign_in_staff(key), "sealed")
    assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["hotline"])
    assert await told(api, "sealed") == []


async def test_what_is_no_ticket_is_none(api: Api, agent: Api) -> None:
    person = await api.persona("sealed")
    for ticket in ("", "x" * 65, "a b", person["idNumber"], person["mobile"]):
        reply = await agent.post(CODES, {"idNumber": person["idNumber"], "ticket": ticket})
        assert (reply.status, reply.json["errors"][0]["field"]) == (422, "ticket")


async def test_neither_code_nor_ticket_nor_number_is_kept_in_plain(agent: Api, database: Database) -> None:
    code = await called(agent, "sealed")
    person = await agent.persona("sealed")
    (kept,) = await database.collection("hotline_codes").find({}, limit=10)
    for secret in (code, TICKET, person["idNumber"], person["mobile"]):
        assert secret not in repr(kept)
        assert not any(secret.encode() in value for value in kept.values() if isinstance(value, bytes))
