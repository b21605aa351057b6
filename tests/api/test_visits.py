"""Visits: the first one activates a card, the others are only recorded."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import card_of, guardian_of, made_up_id_number, numbers, told, written

from service.mongo.client import Database

VISITS = "/v1/staff/visits"


@pytest.fixture
async def clerk(api: Api) -> Api:
    return await api.sign_in_staff("hospital")


async def visit(clerk: Api, key: str, idempotency_key: str = "new", **more: Any) -> Reply:
    body = {**await numbers(clerk, key), "kind": "outpatient", **more}
    return await clerk.post(VISITS, body, key=idempotency_key)


async def kept(database: Database) -> list[dict[str, Any]]:
    return await database.collection("visits").find({}, limit=100)


@pytest.mark.parametrize("kind", ["registration", "outpatient", "hospitalisation"])
async def test_the_first_visit_activates_the_card(api: Api, clerk: Api, database: Database, kind: str) -> None:
    first = await visit(clerk, "sealed", kind=kind)
    assert first.status == 200, first.raw
    card_id = (await api.persona("sealed"))["cards"][0]["cardId"]
    assert first.json == {
        "visitId": first.json["visitId"],
        "cardId": card_id,
        "kind": kind,
        "at": first.json["at"],
        "result": "activated",
        "message": "您的社会保障卡已激活",
        "medicalAccount": "normal",
    }
    card = await card_of(api, "sealed")
    assert card["functions"]["social"] | {"activatedAt": ""} == {"active": True, "activatedAt": "", "channel": "hospital"}
    assert await told(api, "sealed") == ["card_activated"]
    assert await written(api, "sealed") == [("visit", "hospitalClerk", "hospital", kind, None)]
    (one,) = await kept(database)
    assert (one["_id"], one["kind"], one["activated"]) == (first.json["visitId"], kind, True)


async def test_a_visit_with_a_card_in_use_is_recorded_and_changes_nothing(api: Api, clerk: Api, database: Database) -> None:
    before = await card_of(api, "active")
    replies = [await visit(clerk, "active") for _ in range(2)]
    assert [(reply.status, reply.json["result"]) for reply in replies] == [(200, "alreadyActivated")] * 2
    assert len({reply.json["visitId"] for reply in replies}) == 2
    assert len(await kept(database)) == 2
    assert await card_of(api, "active") == before
    assert await told(api, "active") == []


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ("temporarily-lost", "temporarilyLost"),
        ("formally-lost", "formallyLost"),
        ("locked", "locked"),
        ("cancelled", "cancelled"),
        ("not-delivered", "notDelivered"),
        ("test-card", "testCard"),
    ],
)
async def test_a_card_that_cannot_be_used_makes_no_visit(clerk: Api, database: Database, person: str, reason: str) -> None:
    reply = await visit(clerk, person)
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "card_not_activatable", reason)
    assert await kept(database) == []


async def test_a_minors_first_visit_takes_a_guardian_and_the_next_does_not(api: Api, clerk: Api, database: Database) -> None:
    alone = await visit(clerk, "unlinked-minor")
    assert (alone.status, alone.code) == (403, "guardian_required")
    stranger = await visit(clerk, "unlinked-minor", guardian=await guardian_of(api, "active"))
    assert (stranger.status, stranger.code) == (422, "household_mismatch")
    first = await visit(clerk, "unlinked-minor", guardian=await guardian_of(api))
    assert (first.status, first.json["result"]) == (200, "activated")
    assert await told(api, "guardian") == ["card_activated"]
    later = await visit(clerk, "unlinked-minor")
    assert (later.status, later.json["result"]) == (200, "alreadyActivated")
    assert [bool(one["guardian"]) for one in sorted(await kept(database), key=lambda one: one["at"])] == [True, False]


async def test_numbers_that_do_not_match_are_no_visit(api: Api, clerk: Api, database: Database) -> None:
    for wrong in ({"idNumber": made_up_id_number(1)}, {"cardNumber": (await numbers(api, "sealed2"))["cardNumber"]}):
        reply = await visit(clerk, "sealed", **wrong)
        assert (reply.status, reply.code) == (422, "card_details_mismatch")
    assert await kept(database) == []


@pytest.mark.parametrize(("person", "card"), [("not-interconnected", 0), ("two-generations", 0), ("frozen-medical", 0)])
async def test_a_card_of_another_region_makes_no_visit_here(
    api: Api, clerk: Api, database: Database, person: str, card: int
) -> None:
    reply = await visit(clerk, person, **await numbers(api, person, card))
    assert (reply.status, reply.code) == (403, "channel_not_allowed")
    assert await kept(database) == []


async def test_a_retry_gets_the_same_bytes_and_makes_no_second_visit(api: Api, clerk: Api, database: Database) -> None:
    first = await visit(clerk, "sealed", "one-key")
    again = await visit(clerk, "sealed", "one-key")
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    # As after a process that died before it could write its answer down.
    keys = database.collection("idempotency")
    (key,) = await keys.find({}, limit=10)
    await keys.update({"_id": key["_id"]}, {"$set": {"answer": None, "leaseUntil": key["since"]}})
    anew = await visit(clerk, "sealed", "one-key")
    assert (anew.status, anew.json) == (200, first.json)
    assert len(await kept(database)) == 1
    assert len(await written(api, "sealed")) == 1


async def test_of_many_first_visits_at_once_one_activates(api: Api, clerk: Api, database: Database) -> None:
    replies = await asyncio.gather(*(visit(clerk, "sealed") for _ in range(20)))
    assert Counter(reply.json["result"] for reply in replies) == {"activated": 1, "alreadyActivated": 19}
    assert Counter(one["activated"] for one in await kept(database)) == {True: 1, False: 19}
    assert (await card_of(api, "sealed"))["version"] == 1


@pytest.mark.parametrize("key", ["bank-own", "bureau", "bureau-supervisor", "hotline", "employer", "production"])
async def test_only_a_hospital_records_visits(api: Api, key: str) -> None:
    reply = await visit(await api.sign_in_staff(key), "sealed")
    assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["hospital"])


async def test_why_somebody_is_there_is_nobodys_business(clerk: Api) -> None:
    for more in ({"kind": "surgery"}, {"diagnosis": "flu"}):
        assert (await visit(clerk, "sealed", **more)).code == "invalid_request"
