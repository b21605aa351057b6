"""A new supplier's first cards are handed to nobody before three checks have been passed."""

import asyncio
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from api.card_office import (
    BATCHES,
    CHECKS,
    advance,
    applied,
    batch,
    bring,
    card_numbers,
    check,
    handed_over,
    released,
    stranger,
)
from api.client import Api
from api.counters import told

from service.ids import BatchId
from service.mongo.client import Database
from service.mongo.production_batches import MongoBatchStore

BULK, STAFF = "/v1/employer/applications", "/v1/staff/applications"


async def applications(api: Api, count: int) -> list[str]:
    """Applications for people whom an employer names."""
    employer = await api.sign_in_staff("employer")
    rows = [stranger() for _ in range(count)]
    items = (await employer.post(BULK, {"rows": rows}, key="new")).json["items"]
    return [item["applicationId"] for item in items]


async def stages(operator: Api, ids: list[str]) -> list[tuple[str, str | None, bool]]:
    items: list[dict[str, Any]] = (await operator.get(f"{STAFF}?limit=100")).json["items"]
    by_id = {one["applicationId"]: (one["stage"], one["batchId"], one["underTest"]) for one in items}
    return [by_id[one] for one in ids]


async def settled(operator: Api, ids: list[str], wanted: list[tuple[str, str | None, bool]]) -> None:
    """Wait until the applications are where they should be."""
    for _ in range(100):
        if await stages(operator, ids) == wanted:
            return
        await asyncio.sleep(0.05)
    assert await stages(operator, ids) == wanted


async def test_the_first_batch_of_a_product_is_a_test_batch_and_the_next_after_it_passed_is_none(api: Api) -> None:
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    ids = await applications(api, 4)
    first = (await batch(producer, ids[0])).json
    assert first | {"createdAt": ""} == {
        "batchId": first["batchId"],
        "supplier": "works",
        "product": "gen3-a",
        "regionCode": "990100",
        "isTest": True,
        "state": "underTest",
        "checks": {"compliance": None, "security": None, "interRegion": None},
        "applicationIds": [ids[0]],
        "createdAt": "",
    }
    # Nothing is known of the product yet, so another batch of it is no safer.
    assert (await batch(producer, ids[1])).json["isTest"] is True
    *_, found = [await check(supervisor, first["batchId"], name) for name in CHECKS]
    assert (found.json["state"], found.json["checks"]) == ("released", dict.fromkeys(CHECKS, True))
    later = (await batch(producer, ids[2])).json
    assert (later["isTest"], later["state"]) == (False, "released")
    assert (await batch(producer, ids[3], product="gen3-b")).json["isTest"] is True
    no_test = await check(supervisor, later["batchId"], "security")
    assert (no_test.status, no_test.code, no_test.json["reason"]) == (409, "batch_closed", "noTestBatch")
    listed = (await supervisor.get(f"{BATCHES}?limit=3")).json
    assert ([one["applicationIds"] for one in listed["items"]], listed["hasMore"]) == ([[ids[3]], [ids[2]], [ids[1]]], True)
    rest = (await supervisor.get(f"{BATCHES}?limit=3&cursor={listed['nextCursor']}")).json
    assert rest["items"] == [found.json]
    assert (await supervisor.get(f"{BATCHES}/{first['batchId']}")).json == found.json


async def test_a_batch_that_failed_gives_its_cards_to_nobody_and_its_people_another_chance(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    supervisor = await api.sign_in_staff("bureau-supervisor")
    made = await applied(client)
    waiting, *_ = ids = [*(await applications(api, 1)), made]
    batch_id = (await batch(producer, *ids)).json["batchId"]
    numbers = card_numbers()
    new_id = (await bring(producer, made, "receivedByBank", numbers)).json["newCardId"]
    assert (await check(supervisor, batch_id, "compliance")).json["state"] == "underTest"
    failed = await check(supervisor, batch_id, "security", passed=False)
    assert (failed.status, failed.json["state"]) == (200, "failed")
    await settled(producer, [waiting, made], [("accepted", None, False)] * 2)
    shown = (await client.get(f"/v1/applications/{made}")).json
    assert (shown["newCardId"], shown["stages"][-1]["stage"]) == (None, "accepted")
    card = (await client.get(f"/v1/cards/{new_id}")).json
    assert card["status"] == "cancelled"
    over = await check(supervisor, batch_id, "interRegion")
    assert (over.status, over.code, over.json["reason"]) == (409, "batch_closed", "failed")
    # The same word again is no other word.
    assert (await check(supervisor, batch_id, "security", passed=False)).json == failed.json
    # Once more, in another batch and with other numbers: those of the old card are its own.
    await released(producer, supervisor, *ids)
    await bring(producer, made, "bankPreOpened")
    reused = await advance(producer, made, {"stage": "inProduction"} | numbers)
    assert (reused.status, reused.code) == (409, "card_number_taken")
    again = await bring(producer, made, "delivered")
    assert again.json["newCardId"] != new_id
    assert (await client.get("/v1/applications")).json["items"][0]["stage"] == "delivered"


async def test_a_card_under_test_is_neither_handed_out_nor_activated(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    supervisor = await api.sign_in_staff("bureau-supervisor")
    application_id = await applied(client)
    batch_id = (await batch(producer, application_id)).json["batchId"]
    numbers = card_numbers()
    await bring(producer, application_id, "receivedByBank", numbers)
    person = await api.persona("active")
    details = {"idNumber": person["idNumber"]} | {name: numbers[name] for name in ("cardNumber", "identificationCode")}
    refused = await client.activate(details)
    assert (refused.status, refused.json["reason"]) == (409, "testCard")
    for name in CHECKS[:2]:
        await check(supervisor, batch_id, name)
    assert (await advance(producer, application_id, handed_over())).json["reason"] == "testCard"
    await check(supervisor, batch_id, CHECKS[2])
    # Made and lying there; but only a card that was handed out is activated.
    assert (await client.activate(details)).json["reason"] == "notDelivered"
    assert (await advance(producer, application_id, handed_over())).status == 200
    assert (await client.activate(details)).json["result"] == "activated"
    # A persona's card of a test batch stays one, whatever becomes of others.
    tester = await api.sign_in("test-card")
    assert (await tester.activate(await api.details("test-card"))).json["reason"] == "testCard"


async def test_only_applications_before_production_and_in_no_other_batch_go_in(api: Api) -> None:
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    ids = await applications(api, 2)
    await released(producer, supervisor, ids[0])
    twice = await batch(producer, ids[1], ids[0])
    assert (twice.status, twice.code, twice.json["reason"]) == (409, "stage_not_allowed", "inBatch")
    assert twice.json["applicationId"] == ids[0]
    await bring(producer, ids[0], "inProduction")
    assert (await batch(producer, ids[0])).code == "stage_not_allowed"
    assert (await batch(producer, ids[1], "nonsense")).code == "not_found"
    assert (await stages(producer, ids[1:])) == [("accepted", None, False)]
    elsewhere = {"supplier": "w", "product": "p", "regionCode": "990200", "applicationIds": ids}
    reply = await producer.post(BATCHES, elsewhere, key="new")
    assert (reply.status, reply.code) == (403, "channel_not_allowed")
    for client in (await api.sign_in_staff("bureau"), await api.sign_in_staff("bank-own")):
        assert (await batch(client, ids[1])).code == "channel_not_allowed"
    body = (await batch(producer, ids[1])).json
    assert (await check(producer, body["batchId"], "security")).code == "channel_not_allowed"
    assert (await check(supervisor, "nonsense", "security")).code == "not_found"
    assert (await (await api.sign_in_staff("bureau2")).get(f"{BATCHES}/{body['batchId']}")).code == "channel_not_allowed"


async def test_two_who_want_the_same_application_at_once_do_not_both_get_it(api: Api) -> None:
    producer = await api.sign_in_staff("production")
    (application_id,) = await applications(api, 1)
    replies = await asyncio.gather(*(batch(producer, application_id) for _ in range(8)))
    assert set(Counter(reply.status for reply in replies)) <= {201, 409}
    owners = [reply.json["batchId"] for reply in replies if reply.status == 201 and reply.json["applicationIds"]]
    ((_, batch_id, _),) = await stages(producer, [application_id])
    assert owners == [batch_id]


async def test_of_two_words_at_once_neither_is_lost(api: Api) -> None:
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    ids = await applications(api, 2)
    batch_id = (await batch(producer, *ids)).json["batchId"]
    replies = await asyncio.gather(*(check(supervisor, batch_id, name) for name in CHECKS for _ in range(4)))
    assert {reply.status for reply in replies} == {200}
    assert (await supervisor.get(f"{BATCHES}/{batch_id}")).json["state"] == "released"
    await settled(producer, ids, [("accepted", batch_id, False)] * 2)


async def test_the_same_request_again_is_the_same_batch(api: Api) -> None:
    producer, ids = await api.sign_in_staff("production"), await applications(api, 1)
    first, again = [await batch(producer, *ids, key="one") for _ in range(2)]
    assert (first.status, first.raw) == (again.status, again.raw) == (201, first.raw)
    assert len((await producer.get(BATCHES)).json["items"]) == 1


async def test_a_batch_of_many_is_released_to_the_last(api: Api) -> None:
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    ids = await applications(api, 80)
    batch_id = (await batch(producer, *ids)).json["batchId"]
    assert await stages(producer, ids) == [("accepted", batch_id, True)] * 80
    for name in CHECKS:
        await check(supervisor, batch_id, name)
    await settled(producer, ids, [("accepted", batch_id, False)] * 80)


# When a process dies in the middle.


async def test_what_a_word_on_a_batch_left_undone_is_done_by_the_relay(api: Api, database: Database) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    application_id = await applied(client)
    batch_id = (await batch(producer, application_id)).json["batchId"]
    await bring(producer, application_id, "receivedByBank")
    # All that a process had done that died then: the deciding write.
    store = MongoBatchStore(database)
    before = await store.batch(BatchId(batch_id))
    assert before is not None
    checks = MappingProxyType(dict.fromkeys(before.checks, True))
    after = replace(before, state="released", checks=checks, due=True, version=before.version + 1)
    assert await store.change(before, after) is not None
    await settled(producer, [application_id], [("receivedByBank", batch_id, False)])
    assert (await told(api, "active"))[0] == "card_ready"
    assert (await advance(producer, application_id, handed_over())).status == 200


async def test_applications_that_a_dead_process_had_not_put_into_their_batch_are_put_there(
    api: Api, database: Database
) -> None:
    producer = await api.sign_in_staff("production")
    ids = await applications(api, 3)
    batch_id = (await batch(producer, *ids)).json["batchId"]
    back: dict[str, Any] = {"$unset": {"batchId": "", "underTest": ""}}
    await database.collection("applications").update_all({"_id": {"$in": ids[1:]}}, back)
    await database.collection("production_batches").update({"_id": batch_id}, {"$set": {"due": True}})
    await settled(producer, ids, [("accepted", batch_id, True)] * 3)
