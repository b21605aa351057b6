"""A card is applied for, made, fetched, and is then the only one that works."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api.card_office import (
    APPLICATIONS,
    WAY,
    advance,
    applied,
    batch,
    bring,
    card_numbers,
    check,
    first_card,
    handed_over,
    own_card,
    released,
    replacement,
    stranger,
)
from api.client import Api, Reply
from api.counters import told

from service.applications import Application, ApplicationStage, Reached
from service.config import Config
from service.ids import ApplicationId
from service.keyring import load_keyring
from service.mongo.applications import MongoApplicationStore
from service.mongo.client import Database
from service.vault import Vault

BULK, STAFF = "/v1/employer/applications", "/v1/staff/applications"


async def application(client: Api, application_id: str) -> dict[str, Any]:
    reply = await client.get(f"{APPLICATIONS}/{application_id}")
    assert reply.status == 200, reply.raw
    shown: dict[str, Any] = reply.json
    return shown


def passed(shown: dict[str, Any]) -> list[str]:
    return [reached["stage"] for reached in shown["stages"]]


async def employ(employer: Api, *rows: dict[str, Any], key: str = "new", **more: Any) -> Reply:
    return await employer.post(BULK, {"rows": list(rows)} | more, key=key)


async def newcomer(api: Api, row: dict[str, Any]) -> Api:
    """Somebody of whom an employer's row was the first word, signed in."""
    body = {"method": "sms", "name": row["name"], "idNumber": row["idNumber"], "mobile": row["mobile"]}
    started = (await api.post("/v1/identity/verifications", body)).json
    messages = await api.messages(row["mobile"])
    code = next(message["code"] for message in messages if message["code"])
    reply = await api.post(f"/v1/identity/verifications/{started['verificationId']}/confirm", {"code": code})
    assert reply.status == 200, reply.raw
    return api.as_(reply.json["accessToken"])


async def eventually(look: Any, wanted: Any) -> None:
    """Wait until something that others bring about is so."""
    for _ in range(100):
        if await look() == wanted:
            return
        await asyncio.sleep(0.05)
    assert await look() == wanted


async def test_whoever_has_the_newer_card_in_hand_gets_no_second_one_for_the_older(api: Api) -> None:
    client = await api.sign_in("two-generations")
    generations = {card["generation"]: card["cardId"] for card in (await client.get("/v1/cards")).json["items"]}
    refused = await replacement(client, generations[2])
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "application_not_allowed", "hasCard")
    # The newer one was never activated, so there is nothing to replace yet.
    assert (await replacement(client, generations[3])).json["from"] == "sealed"


# The whole way.


async def test_a_replacement_goes_all_the_way_until_the_old_card_is_cancelled_and_the_new_one_active(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    bureau, bank = await api.sign_in_staff("bureau"), await api.sign_in_staff("bank-own")
    supervisor = await api.sign_in_staff("bureau-supervisor")
    old = await own_card(client)
    balance = (await client.get(f"/v1/cards/{old['cardId']}/balance")).json["items"]

    asked = await replacement(client, old["cardId"])
    assert asked.status == 201
    application_id = asked.json["applicationId"]
    assert asked.json | {"stages": []} == {
        "applicationId": application_id,
        "kind": "replacement",
        "cardId": old["cardId"],
        "newCardId": None,
        "stage": "accepted",
        "stages": [],
        "reason": "damaged",
        "rejection": None,
        "collectAt": None,
    }
    # Whoever waits for a new card goes on with the old one.
    assert (await own_card(client))["status"] == "active"
    assert await told(api, "active") == ["application_accepted"]

    begun = await batch(producer, application_id)
    assert (begun.status, begun.json["isTest"], begun.json["state"]) == (201, True, "underTest")
    numbers = card_numbers()
    await bring(producer, application_id, "shippedByProvince", numbers)
    new_id = (await application(client, application_id))["newCardId"]
    new = (await client.get(f"/v1/cards/{new_id}")).json
    assert (new["status"], new["productionStage"], new["generation"]) == ("sealed", "shippedByProvince", 3)
    assert new["cardNumberMasked"][-3:] == numbers["cardNumber"][-3:]
    assert new["bank"]["code"] == old["bank"]["code"]
    assert new["functions"]["bank"]["status"] == "pending"
    assert new["servicePin"] == {"state": "initial", "triesLeft": 5}

    assert (await advance(bureau, application_id, "receivedByCity")).status == 200
    assert (await advance(bank, application_id, "receivedByBank")).status == 200
    # It lies there, but is of a batch under test.
    assert (await application(client, application_id))["collectAt"] is None
    early = await advance(bank, application_id, handed_over())
    assert (early.status, early.code, early.json["reason"]) == (409, "stage_not_allowed", "testCard")
    for name in ("compliance", "security", "interRegion"):
        assert (await check(supervisor, begun.json["batchId"], name)).status == 200
    assert (await application(client, application_id))["collectAt"] == "云栖市，云汀银行网点"
    assert (await told(api, "active"))[0] == "card_ready"

    given = await advance(bank, application_id, handed_over())
    assert (given.status, given.json["stage"], given.json["next"]) == (200, "delivered", None)
    shown = await application(client, application_id)
    assert passed(shown) == WAY
    assert shown["collectAt"] is None
    assert (await client.get(f"/v1/cards/{old['cardId']}")).json["status"] == "cancelled"
    assert (await client.get(f"/v1/cards/{old['cardId']}/history")).json["items"][0]["event"] == "replaced"
    heard = ("application_accepted", "card_in_production", "card_ready", "card_replaced")
    assert Counter(await told(api, "active")) == dict.fromkeys(heard, 1)

    person = await api.persona("active")
    details = {"idNumber": person["idNumber"]} | {name: numbers[name] for name in ("cardNumber", "identificationCode")}
    activation = await client.activate(details)
    assert (activation.status, activation.json["cardId"], activation.json["result"]) == (200, new_id, "activated")
    # The accounts are the person's, not the card's.
    assert (await client.get(f"/v1/cards/{new_id}/balance")).json["items"] == balance
    assert activation.json["medicalAccount"] == "normal"


async def test_somebody_whom_an_employer_applied_for_signs_in_and_gets_a_first_card(api: Api) -> None:
    employer, producer = await api.sign_in_staff("employer"), await api.sign_in_staff("production")
    row = stranger()
    (answer,) = (await employ(employer, row)).json["items"]
    assert (answer["row"], answer["result"], answer["code"], answer["message"]) == (1, "accepted", None, None)
    application_id = answer["applicationId"]
    client = await newcomer(api, row)
    (mine,) = (await client.get(APPLICATIONS)).json["items"]
    assert (mine["applicationId"], mine["kind"], mine["cardId"]) == (application_id, "firstCard", None)
    assert (await client.get("/v1/cards")).json["items"] == []

    await released(producer, await api.sign_in_staff("bureau-supervisor"), application_id)
    numbers = card_numbers()
    await bring(producer, application_id, "delivered", numbers)
    card = await own_card(client)
    assert (card["productionStage"], card["status"]) == ("delivered", "sealed")
    assert (await application(client, application_id))["cardId"] == card["cardId"]
    details = {"idNumber": row["idNumber"]} | {name: numbers[name] for name in ("cardNumber", "identificationCode")}
    assert (await client.activate(details)).json["result"] == "activated"
    again = await first_card(client)
    assert (again.status, again.code, again.json["reason"]) == (409, "application_not_allowed", "hasCard")


async def test_who_lost_the_only_card_for_good_may_apply_for_a_new_one(api: Api) -> None:
    client = await api.sign_in("cancelled")
    reply = await first_card(client)
    assert (reply.status, reply.json["kind"], reply.json["stage"]) == (201, "firstCard", "accepted")
    assert (await told(api, "cancelled")) == ["application_accepted"]


async def test_a_card_with_something_wrong_on_its_face_goes_to_nobody(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    application_id = await applied(client)
    await released(producer, await api.sign_in_staff("bureau-supervisor"), application_id)
    await bring(producer, application_id, "receivedByBank")
    ended = await advance(producer, application_id, handed_over(photo=False))
    assert (ended.status, ended.json["stage"], ended.json["rejection"]) == (200, "rejected", "faceWrong")
    new_id = ended.json["newCardId"]
    cards = {card["cardId"]: card for card in (await client.get("/v1/cards")).json["items"]}
    assert cards.pop(new_id)["status"] == "cancelled"
    assert [card["status"] for card in cards.values()] == ["active"]
    assert (await told(api, "active"))[0] == "application_rejected"
    # The way is free for another.
    old = next(iter(cards))
    assert (await replacement(client, old)).status == 201


async def test_an_application_can_end_before_a_card_is_made(api: Api) -> None:
    client, bureau = await api.sign_in("active"), await api.sign_in_staff("bureau")
    application_id = await applied(client)
    ended = await advance(bureau, application_id, {"stage": "rejected", "reason": "withdrawn"})
    assert (ended.status, ended.json["rejection"], ended.json["next"]) == (200, "withdrawn", None)
    over = await advance(bureau, application_id, {"stage": "rejected", "reason": "withdrawn"})
    assert (over.status, over.code, over.json["stage"], over.json["next"]) == (409, "stage_not_allowed", "rejected", None)


# Asking.


async def test_fifty_requests_at_once_are_one_application(api: Api) -> None:
    client = await api.sign_in("active")
    card_id = (await own_card(client))["cardId"]
    replies = await asyncio.gather(*(replacement(client, card_id) for _ in range(50)))
    assert Counter(reply.status for reply in replies) == {201: 1, 409: 49}
    (made,) = (reply.json["applicationId"] for reply in replies if reply.status == 201)
    assert {(r.code, r.json["applicationId"]) for r in replies if r.status == 409} == {("application_exists", made)}
    assert [one["applicationId"] for one in (await client.get(APPLICATIONS)).json["items"]] == [made]
    assert await told(api, "active") == ["application_accepted"]


async def test_the_same_request_again_gets_the_same_bytes(api: Api) -> None:
    client = await api.sign_in("active")
    card_id = (await own_card(client))["cardId"]
    first, again = [await replacement(client, card_id, key="once") for _ in range(2)]
    assert (first.status, first.raw) == (again.status, again.raw) == (201, first.raw)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await replacement(client, card_id, "lost", key="once")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_what_the_table_of_transitions_does_not_allow_is_refused(api: Api) -> None:
    locked, sealed = await api.sign_in("locked"), await api.sign_in("sealed")
    reply = await replacement(locked, (await own_card(locked))["cardId"])
    assert (reply.status, reply.code, reply.json["from"], reply.json["allowed"]) == (
        409,
        "transition_not_allowed",
        "locked",
        [],
    )
    reply = await replacement(sealed, (await own_card(sealed))["cardId"])
    assert (reply.status, reply.code, reply.json["from"]) == (409, "transition_not_allowed", "sealed")
    assert (await locked.get(APPLICATIONS)).json["items"] == []


async def test_a_card_that_was_lost_for_good_can_be_replaced(api: Api) -> None:
    client = await api.sign_in("formally-lost")
    reply = await replacement(client, (await own_card(client))["cardId"], "lost")
    assert (reply.status, reply.json["reason"]) == (201, "lost")


async def test_where_the_region_says_only_at_a_counter_it_is_not_done_online(api: Api) -> None:
    client = await api.sign_in("not-interconnected")
    reply = await replacement(client, (await own_card(client))["cardId"])
    assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["bank", "bureau"])
    # The information is confirmed at a window there, too.
    reply = await first_card(client, regionCode="990200")
    assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["bureau"])


async def test_what_a_first_card_takes_is_looked_at(api: Api) -> None:
    client = await api.sign_in("cancelled")
    for instead, field, code in (
        ({"bank": "B903"}, "bank", "bank_not_of_region"),
        ({"photoConfirmed": False}, "photoConfirmed", "not_allowed"),
        ({"regionCode": "110000"}, "regionCode", "not_allowed"),
        ({"wish": 1}, "wish", "unknown_field"),
    ):
        reply = await first_card(client, **instead)
        assert (reply.status, reply.json["errors"][0]["field"], reply.json["errors"][0]["code"]) == (422, field, code)
    reply = await first_card(await api.sign_in("cancelled", "password"))
    assert (reply.status, reply.code) == (403, "assurance_too_low")


async def test_whose_insurance_has_ended_gets_no_new_card(api: Api) -> None:
    employer, bureau = await api.sign_in_staff("employer"), await api.sign_in_staff("bureau")
    row = stranger()
    now = (await api.post("/sandbox/clock", {"advanceSeconds": 0})).json["now"][:10]
    hired = {"rows": [{"name": row["name"], "idNumber": row["idNumber"], "hiredOn": now}]}
    (made,) = (await employer.post("/v1/employer/registrations", hired, key="new")).json["items"]
    left = {"endedOn": now, "reason": "emigration"}
    assert (await employer.post(f"/v1/employer/registrations/{made['registrationId']}/end", left, key="new")).status == 200
    (answer,) = (await bureau.post(STAFF, {"rows": [row]}, key="new")).json["items"]
    assert (answer["result"], answer["code"]) == ("refused", "application_not_allowed")
    assert "账户余额一次性支付" in answer["message"]


async def test_an_application_is_its_holders_alone(api: Api) -> None:
    client, other = await api.sign_in("active"), await api.sign_in("guardian")
    application_id = await applied(client)
    assert (await other.get(f"{APPLICATIONS}/{application_id}")).code == "not_found"
    assert (await other.get(f"{APPLICATIONS}/nonsense")).code == "not_found"
    assert (await other.get(APPLICATIONS)).json["items"] == []
    assert (await replacement(other, (await own_card(client))["cardId"])).code == "not_found"


async def test_a_list_goes_on_page_by_page(api: Api) -> None:
    client, bureau = await api.sign_in("active"), await api.sign_in_staff("bureau")
    made = []
    for _ in range(3):
        made.append(await applied(client))
        await advance(bureau, made[-1], {"stage": "rejected", "reason": "withdrawn"})
    first = (await client.get(f"{APPLICATIONS}?limit=2")).json
    second = (await client.get(f"{APPLICATIONS}?limit=2&cursor={first['nextCursor']}")).json
    assert [one["applicationId"] for one in (*first["items"], *second["items"])] == made[::-1]
    assert (first["hasMore"], second["hasMore"], second["nextCursor"]) == (True, False, None)
    listed = (await bureau.get(f"{STAFF}?stage=rejected")).json["items"]
    assert [one["applicationId"] for one in listed] == made[::-1]
    assert (await bureau.get(f"{STAFF}?stage=accepted")).json["items"] == []


# At a counter.


async def test_a_replacement_at_a_counter_takes_materials_and_is_written_down(api: Api) -> None:
    client, bureau = await api.sign_in("active"), await api.sign_in_staff("bureau")
    path = f"/v1/staff/cards/{(await own_card(client))['cardId']}/replacement"
    bare = await bureau.post(path, {"reason": "damaged"}, key="new")
    assert (bare.status, bare.json["errors"][0]["field"]) == (422, "materials")
    asked = await bureau.post(path, {"reason": "damaged", "materials": ["card", "idCard"]}, key="new")
    assert (asked.status, asked.json["stage"]) == (201, "accepted")
    entry = (await client.accesses())[0]
    assert (entry["action"], entry["by"], entry["channel"]) == ("replace", "bureauClerk", "bureau")
    # In this region a bank does not do it, and another region's bureau never does.
    for key in ("bank-own", "bureau2", "hospital"):
        reply = await (await api.sign_in_staff(key)).post(
            path, {"reason": "damaged", "materials": ["card", "idCard"]}, key="new"
        )
        assert (reply.status, reply.code) == (403, "channel_not_allowed"), key


# Moving on.


async def test_only_the_next_stage_may_come(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    application_id = await applied(client)
    for body in ("shippedByProvince", "receivedByBank", handed_over(), {"stage": "inProduction"} | card_numbers()):
        reply = await advance(producer, application_id, body)
        assert (reply.status, reply.code) == (409, "stage_not_allowed")
        assert (reply.json["stage"], reply.json["next"]) == ("accepted", "bankPreOpened")
    assert (await advance(producer, application_id, "bankPreOpened")).status == 200
    again = await advance(producer, application_id, "bankPreOpened")
    assert (again.code, again.json["stage"], again.json["next"]) == ("stage_not_allowed", "bankPreOpened", "inProduction")
    alone = await advance(producer, application_id, {"stage": "inProduction"} | card_numbers())
    assert (alone.status, alone.json["reason"]) == (409, "noBatch")


async def test_who_may_say_what_follows_from_role_region_and_bank(api: Api) -> None:
    client = await api.sign_in("active")
    application_id = await applied(client)
    for key, body, status in (
        ("hospital", "bankPreOpened", 403),
        ("bureau", "bankPreOpened", 403),
        ("bank-other", "bankPreOpened", 403),
        ("bureau2", {"stage": "rejected", "reason": "withdrawn"}, 403),
        ("bureau", handed_over(), 403),
        ("bank-own", {"stage": "rejected", "reason": "withdrawn"}, 403),
        ("bank-own", "bankPreOpened", 200),
    ):
        reply = await advance(await api.as_(None).sign_in_staff(key), application_id, body)
        assert reply.status == status, (key, body, reply.raw)
    assert (await advance(client, application_id, "bankPreOpened")).code == "forbidden"
    # What was done about somebody stands in their log, once; what was refused is nobody's doing.
    entries = await client.accesses()
    assert [(entry["action"], entry["by"], entry["channel"], entry["reason"]) for entry in entries] == [
        ("advanceApplication", "bankTeller", "bank", "bankPreOpened"),
        ("replace", "self", "app", None),
    ]


async def test_of_many_who_say_the_same_at_once_one_is_right(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    application_id = await applied(client)
    replies = await asyncio.gather(*(advance(producer, application_id, "bankPreOpened") for _ in range(12)))
    assert Counter(reply.status for reply in replies) == {200: 1, 409: 11}
    assert passed(await application(client, application_id)) == ["accepted", "bankPreOpened"]
    same = await asyncio.gather(*(advance(producer, application_id, "bankPreOpened", key="k") for _ in range(2)))
    assert {reply.status for reply in same} == {409}


async def test_a_new_card_has_numbers_of_its_region_that_nobody_else_has(api: Api) -> None:
    client, other = await api.sign_in("active"), await api.sign_in("guardian")
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    ids = [await applied(client), await applied(other)]
    await released(producer, supervisor, *ids)
    for application_id in ids:
        await bring(producer, application_id, "bankPreOpened")
    wrong = card_numbers()
    for instead, field, code in (
        ({"cardNumber": "A12345678"}, "cardNumber", "card_number_check_character"),
        ({"cardNumber": "123"}, "cardNumber", "card_number_format"),
        ({"identificationCode": card_numbers("990200")["identificationCode"]}, "identificationCode", "not_allowed"),
        ({"bankAccount": "9999012345678901230"}, "bankAccount", "bank_number_check_character"),
    ):
        reply = await advance(producer, ids[0], {"stage": "inProduction"} | wrong | instead)
        assert (reply.status, reply.json["errors"][0]["field"], reply.json["errors"][0]["code"]) == (422, field, code)
    reply = await advance(producer, ids[0], {"stage": "inProduction", "cardNumber": wrong["cardNumber"]})
    assert [(one["field"], one["code"]) for one in reply.json["errors"]] == [
        ("identificationCode", "missing"),
        ("bankAccount", "missing"),
    ]
    # A persona's card has this number; and then the first application's.
    there = (await api.persona("sealed"))["cards"][0]["cardNumber"]
    reply = await advance(producer, ids[0], {"stage": "inProduction"} | wrong | {"cardNumber": there})
    assert (reply.status, reply.code) == (409, "card_number_taken")
    right = card_numbers()
    replies = await asyncio.gather(*(advance(producer, one, {"stage": "inProduction"} | right) for one in ids))
    assert Counter(reply.status for reply in replies) == {200: 1, 409: 1}
    assert next(reply.code for reply in replies if reply.status == 409) == "card_number_taken"
    cards = [len((await one.get("/v1/cards")).json["items"]) for one in (client, other)]
    assert sorted(cards) == [1, 2]


async def test_a_card_that_was_cancelled_on_its_way_goes_no_further(api: Api) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    first, second = await api.sign_in_staff("bureau"), await api.sign_in_staff("bureau-supervisor")
    application_id = await applied(client)
    await released(producer, second, application_id)
    new_id = (await bring(producer, application_id, "receivedByCity")).json["newCardId"]
    asked = await first.post(f"/v1/staff/cards/{new_id}/cancel", {"reason": "error"}, key="new")
    approval = asked.json["approvalId"]
    assert (await second.post(f"/v1/staff/approvals/{approval}/approve", {}, key="new")).status == 200
    reply = await advance(producer, application_id, "receivedByBank")
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "stage_not_allowed", "cancelled")
    ended = await advance(producer, application_id, {"stage": "rejected", "reason": "cardFaulty"})
    assert ended.json["stage"] == "rejected"


# Employers, schools and sub-districts.


async def test_a_hundred_rows_are_answered_one_by_one(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    known = await api.persona("sealed")
    rows: list[dict[str, Any]] = [stranger() for _ in range(100)]
    rows[3] |= {"idNumber": rows[3]["idNumber"][:-1] + ("1" if rows[3]["idNumber"][-1] != "1" else "2")}
    rows[10] |= {"mobile": "123"}
    rows[20] |= {"name": " \u200b "}
    rows[30] |= {"photoConfirmed": False}
    rows[40] |= {"bank": "B999"}
    rows[50] = stranger(name=known["name"], idNumber=known["idNumber"])
    rows[60] = stranger(idNumber=known["idNumber"])
    rows[70] = rows[0]
    reply = await employ(employer, *rows, key="hundred")
    assert reply.status == 200
    items = reply.json["items"]
    assert [item["row"] for item in items] == list(range(1, 101))
    refused = {item["row"] - 1: item["code"] for item in items if item["result"] == "refused"}
    assert refused == {
        3: "resident_id_check_character",
        10: "mobile_format",
        20: "name_format",
        30: "not_confirmed",
        40: "bank_not_of_region",
        50: "application_not_allowed",
        60: "name_mismatch",
        70: "application_exists",
    }
    assert all((item["applicationId"] is None) == (item["result"] == "refused") for item in items)
    assert all(item["message"] for item in items if item["result"] == "refused")
    assert len({item["applicationId"] for item in items if item["applicationId"]}) == 92
    assert (await employ(employer, *rows, key="hundred")).raw == reply.raw


async def test_a_body_that_is_no_list_of_rows_is_refused_as_a_whole(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    assert (await employ(employer)).status == 422
    assert (await employ(employer, *[stranger() for _ in range(101)])).status == 422
    bare = await employ(employer, {"name": "张伟"})
    assert (bare.status, bare.json["errors"][0]["field"]) == (422, "rows.0.idNumber")


async def test_an_operator_sends_so_many_lists_a_day_and_no_more(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    nobody = stranger(photoConfirmed=False)
    replies = [await employ(employer, nobody) for _ in range(101)]
    assert Counter(reply.status for reply in replies) == {200: 100, 429: 1}
    assert replies[-1].code == "rate_limited"
    assert 86_000 < int(replies[-1].headers["Retry-After"]) <= 86_400


async def test_rows_are_for_who_confirms_in_their_own_region(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    elsewhere = await employ(employer, stranger(), regionCode="990200")
    assert (elsewhere.status, elsewhere.code) == (403, "channel_not_allowed")
    assert (await (await api.sign_in_staff("bureau")).post(BULK, {"rows": [stranger()]}, key="new")).status == 403
    (answer,) = (await (await api.sign_in_staff("bureau")).post(STAFF, {"rows": [stranger()]}, key="new")).json["items"]
    assert answer["result"] == "accepted"


async def test_what_is_known_of_a_person_is_not_changed_by_a_row_about_them(api: Api) -> None:
    employer, person = await api.sign_in_staff("employer"), await api.persona("cancelled")
    row = stranger(name=person["name"], idNumber=person["idNumber"])
    (answer,) = (await employ(employer, row)).json["items"]
    assert answer["result"] == "accepted"
    # The code goes where it always went.
    client = await api.sign_in("cancelled")
    assert [one["applicationId"] for one in (await client.get(APPLICATIONS)).json["items"]] == [answer["applicationId"]]
    assert [m["template"] for m in await api.messages(row["mobile"])] == []
    entry = (await client.accesses())[0]
    assert (entry["action"], entry["by"], entry["reason"]) == ("applyForCard", "employer", "employer")


async def test_a_person_applied_for_twice_at_once_is_applied_for_once(api: Api) -> None:
    employer, row = await api.sign_in_staff("employer"), stranger()
    replies = await asyncio.gather(*(employ(employer, row) for _ in range(10)))
    answers = [reply.json["items"][0] for reply in replies]
    assert Counter(answer["code"] for answer in answers) == {None: 1, "application_exists": 9}


# When a process dies in the middle.


async def test_what_a_step_left_undone_is_done_by_the_relay(api: Api, config: Config, database: Database) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    application_id = await applied(client)
    await released(producer, await api.sign_in_staff("bureau-supervisor"), application_id)
    await bring(producer, application_id, "shippedByProvince")
    # All that a process had done that died then: the deciding write.
    ring = load_keyring(config.keyring_path)
    store = MongoApplicationStore(database, Vault(lambda: ring))
    for stage in ("receivedByCity", "receivedByBank", "delivered"):
        before = await store.application(ApplicationId(application_id))
        assert before is not None
        after = _moved(before, stage)
        assert await store.change(before, after) is not None
    old = (await application(client, application_id))["cardId"]
    new = (await application(client, application_id))["newCardId"]

    async def states() -> tuple[str, str]:
        cards = {card["cardId"]: card for card in (await client.get("/v1/cards")).json["items"]}
        return cards[old]["status"], cards[new]["productionStage"]

    await eventually(states, ("cancelled", "delivered"))
    heard = ("application_accepted", "card_in_production", "card_ready", "card_replaced")
    assert Counter(await told(api, "active")) == dict.fromkeys(heard, 1)


def _moved(before: Application, stage: str) -> Application:
    last = before.stages[-1]
    reached = Reached(ApplicationStage(stage), last.at, last.by, last.role, stage.encode())
    after = replace(before, stages=(*before.stages, reached))
    return replace(after, due=before.owing("card_ready" if after.to_be_fetched else None))


async def forget_answers(database: Database) -> None:
    """As if every process had died before it could keep its answers, a while ago."""
    lost: dict[str, Any] = {"$set": {"answer": None, "leaseUntil": datetime(2020, 1, 1, tzinfo=UTC)}}
    await database.collection("idempotency").update_all({}, lost)


async def test_rows_that_were_done_before_a_crash_are_not_done_again(api: Api, database: Database) -> None:
    employer = await api.sign_in_staff("employer")
    rows = [stranger() for _ in range(5)]
    first = await employ(employer, *rows, key="crash")
    ids = [item["applicationId"] for item in first.json["items"]]
    # It came as far as the third row.
    await database.collection("applications").delete_all({"_id": {"$in": ids[3:]}})
    await forget_answers(database)
    again = await employ(employer, *rows, key="crash")
    assert (again.status, again.raw) == (200, first.raw)
    assert "Idempotency-Replayed" not in again.headers
    found = await database.collection("applications").find({"_id": {"$in": ids}}, limit=10)
    assert len(found) == 5


async def test_a_request_whose_answer_was_lost_finds_its_own_work(api: Api, database: Database) -> None:
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    card_id = (await own_card(client))["cardId"]
    first = await replacement(client, card_id, key="lost")
    await forget_answers(database)
    again = await replacement(client, card_id, key="lost")
    assert (again.status, again.raw) == (201, first.raw)
    application_id = first.json["applicationId"]
    moved = await advance(producer, application_id, "bankPreOpened", key="lost")
    await forget_answers(database)
    still = await advance(producer, application_id, "bankPreOpened", key="lost")
    assert (still.status, still.raw) == (200, moved.raw)
    assert passed(await application(client, application_id)) == ["accepted", "bankPreOpened"]
    assert await told(api, "active") == ["application_accepted"]
