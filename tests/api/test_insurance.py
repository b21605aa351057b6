"""Employers register their people, people register themselves, and everybody sees what they are insured in."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from api.client import Api, Reply

from service.clock import CHINA
from service.sandbox.invention import Inventor

EMPLOYER = "云栖市虚构单位"
TYPES = ["pension", "unemployment", "medical", "workInjury", "maternity"]
CODES = ["110", "210", "310", "410", "510"]


def stranger(seed: str, born: date = date(1990, 5, 17)) -> dict[str, str]:
    """Somebody whom nobody knows yet."""
    inventor = Inventor(f"insurance/{seed}")
    return {"name": inventor.name(), "idNumber": inventor.resident_id(born=born)}


async def known(api: Api, key: str) -> dict[str, str]:
    person = await api.persona(key)
    return {"name": person["name"], "idNumber": person["idNumber"]}


async def today(api: Api) -> date:
    reply = await api.post("/sandbox/clock", {"advanceSeconds": 0})
    return datetime.fromisoformat(reply.json["now"]).astimezone(CHINA).date()


async def ago(api: Api, days: int) -> str:
    return (await today(api) - timedelta(days)).isoformat()


async def register(client: Api, *rows: Mapping[str, Any], key: str = "new", **more: Any) -> Reply:
    return await client.post("/v1/employer/registrations", {"rows": list(rows)} | more, key=key)


async def registered(client: Api, *rows: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    reply = await register(client, *rows, **more)
    assert reply.status == 200, reply.raw
    items: list[dict[str, Any]] = reply.json["items"]
    assert [item["row"] for item in items] == list(range(1, len(rows) + 1))
    return items


async def hire(api: Api, employer: Api, key: str, days_ago: int = 0) -> str:
    """Register a persona, and the id of the registration."""
    (item,) = await registered(employer, await known(api, key) | {"hiredOn": await ago(api, days_ago)})
    assert item["result"] == "registered"
    return str(item["registrationId"])


async def end(client: Api, registration_id: str, day: str, reason: str = "employmentEnded", key: str = "new") -> Reply:
    body = {"endedOn": day, "reason": reason}
    return await client.post(f"/v1/employer/registrations/{registration_id}/end", body, key=key)


async def status(client: Api) -> dict[str, dict[str, Any]]:
    reply = await client.get("/v1/insurance/status")
    assert reply.status == 200, reply.raw
    assert [item["type"] for item in reply.json["items"]] == TYPES
    return {item["type"]: item for item in reply.json["items"]}


async def states(client: Api) -> dict[str, str]:
    return {name: item["state"] for name, item in (await status(client)).items()}


async def oneself(client: Api, *insurances: str, key: str = "new", **more: str) -> Reply:
    return await client.post("/v1/insurance/registrations", {"insurances": list(insurances)} | more, key=key)


async def heard(api: Api, key: str) -> Counter[str]:
    """What somebody was told about insurance, and how often."""
    sent = await api.messages((await api.persona(key))["mobile"])
    return Counter(message["template"] for message in sent if message["template"].startswith("insurance"))


# Employers.


async def test_an_employer_registers_somebody_in_all_five_insurances_and_they_hear_of_it(api: Api) -> None:
    employer, person = await api.sign_in_staff("employer"), await api.sign_in("sealed")
    assert set((await states(person)).values()) == {"none"}
    hired = await ago(api, 3)
    (item,) = await registered(employer, await known(api, "sealed") | {"hiredOn": hired})
    assert item == {
        "row": 1,
        "result": "registered",
        "registrationId": item["registrationId"],
        "overdueDays": 0,
        "code": None,
        "message": None,
    }
    found = await status(person)
    assert [one["code"] for one in found.values()] == CODES
    for one in found.values():
        assert (one["state"], one["since"], one["employer"]) == ("active", hired, EMPLOYER)
        assert (one["regionCode"], one["source"]) == ("990100", "insuranceRegister")
    assert await heard(api, "sealed") == {"insurance_registered": 1}
    (entry,) = await person.accesses()
    assert (entry["action"], entry["by"], entry["channel"]) == ("registerInsurance", "employer", "employer")


async def test_the_employer_is_named_in_the_language_of_the_caller(api: Api) -> None:
    person = await api.sign_in("active")
    reply = await person.get("/v1/insurance/status", Accept_Language="en")
    assert {item["employer"] for item in reply.json["items"]} == {"Invented employer in Yunqi"}


async def test_the_thirtieth_day_is_in_time_and_the_day_after_is_overdue_by_one(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    days = [0, 29, 30, 31, 100]
    items = await registered(employer, *[stranger(f"due {n}") | {"hiredOn": await ago(api, n)} for n in days])
    assert {item["result"] for item in items} == {"registered"}
    assert [item["overdueDays"] for item in items] == [0, 0, 0, 1, 70]


async def test_time_passes_and_what_was_in_time_is_late(api: Api) -> None:
    hired = await ago(api, 0)
    rows = [stranger(f"late {n}") | {"hiredOn": hired} for n in range(3)]
    await api.advance(30 * 86_400)
    (in_time,) = await registered(await api.sign_in_staff("employer"), rows[0])
    assert (in_time["result"], in_time["overdueDays"]) == ("registered", 0)
    await api.advance(86_400)
    employer = await api.sign_in_staff("employer")
    late, again = await registered(employer, rows[1], rows[0])
    assert (late["result"], late["overdueDays"]) == ("registered", 1)
    assert again == in_time | {"row": 2, "result": "alreadyRegistered"}


async def test_every_row_that_cannot_be_is_refused_by_itself_and_says_why(api: Api) -> None:
    employer, now = await api.sign_in_staff("employer"), await today(api)
    good = stranger("good")
    young = stranger("young", born=date(now.year - 10, 3, 4))
    birthday = stranger("birthday", born=date(now.year - 17, 3, 4))
    sixteenth = date(now.year - 1, 3, 4)
    number = good["idNumber"]
    wrong_check = number[:-1] + ("0" if number[-1] != "0" else "1")
    rows: list[tuple[dict[str, str], str | None]] = [
        (good | {"hiredOn": now.isoformat()}, None),
        (stranger("future") | {"hiredOn": (now + timedelta(1)).isoformat()}, "hired_in_future"),
        (young | {"hiredOn": now.isoformat()}, "under_working_age"),
        (young | {"hiredOn": date(now.year - 11, 1, 1).isoformat()}, "hired_before_birth"),
        (birthday | {"hiredOn": (sixteenth - timedelta(1)).isoformat()}, "under_working_age"),
        (birthday | {"hiredOn": sixteenth.isoformat()}, None),
        (good | {"idNumber": wrong_check, "hiredOn": now.isoformat()}, "resident_id_check_character"),
        (good | {"idNumber": "12", "hiredOn": now.isoformat()}, "resident_id_format"),
        (stranger("day") | {"hiredOn": "2026-02-30"}, "day_format"),
        (stranger("time") | {"hiredOn": "20260201"}, "day_format"),
        (stranger("no name") | {"name": " ", "hiredOn": now.isoformat()}, "name_format"),
        ((await known(api, "sealed")) | {"name": "李假远", "hiredOn": now.isoformat()}, "name_mismatch"),
    ]
    items = await registered(employer, *(row for row, _ in rows))
    assert [item["code"] for item in items] == [code for _, code in rows]
    for item, (row, code) in zip(items, rows, strict=True):
        assert item["result"] == ("refused" if code else "registered")
        assert (item["registrationId"] is None) == (item["message"] is not None) == (code is not None)
        assert item["message"] is None or row["idNumber"] not in item["message"]
    chinese = {item["message"] for item in items}
    english = (
        await employer.post(
            "/v1/employer/registrations", {"rows": [row for row, _ in rows]}, key="new", headers={"Accept-Language": "en"}
        )
    ).json["items"]
    assert not chinese & {item["message"] for item in english if item["message"]}
    assert set((await states(await api.sign_in("sealed"))).values()) == {"none"}


async def test_a_hundred_rows_good_and_bad_are_each_answered_and_one_more_is_too_many(api: Api) -> None:
    employer, hired = await api.sign_in_staff("employer"), await ago(api, 5)
    rows = [stranger(f"bulk {n}") | {"hiredOn": hired if n % 4 else "soon"} for n in range(100)]
    items = await registered(employer, *rows)
    assert [item["result"] for item in items] == ["registered" if n % 4 else "refused" for n in range(100)]
    ids = [item["registrationId"] for item in items if item["registrationId"]]
    assert len(set(ids)) == len(ids) == 75
    again = await registered(employer, *reversed(rows))
    assert [item["registrationId"] for item in reversed(again)] == [item["registrationId"] for item in items]
    assert Counter(item["result"] for item in again) == {"alreadyRegistered": 75, "refused": 25}
    for too in (rows[:1] * 101, []):
        reply = await register(employer, *too)
        assert (reply.status, reply.code) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"salary": 1}, "rows.0.salary", "unknown_field"),
        ({"hiredOn": None}, "rows.0.hiredOn", "wrong_type"),
        ({"idNumber": 1}, "rows.0.idNumber", "wrong_type"),
        ({"insurances": []}, "rows.0.insurances", "too_short"),
        ({"insurances": ["housing"]}, "rows.0.insurances.0", "not_allowed"),
        ({"pensionCode": "310"}, "rows.0.pensionCode", "not_allowed"),
    ],
)
async def test_a_request_of_the_wrong_form_registers_nobody(api: Api, change: Any, field: str, code: str) -> None:
    employer, hired = await api.sign_in_staff("employer"), await ago(api, 0)
    good, bad = stranger("form") | {"hiredOn": hired}, stranger("other form") | {"hiredOn": hired}
    reply = await register(employer, bad | change, good)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [(field, code)]
    (item,) = await registered(employer, good)
    assert item["result"] == "registered"


async def test_an_employer_names_the_insurances_and_public_bodies_their_own_pension(api: Api) -> None:
    employer, person = await api.sign_in_staff("employer"), await api.sign_in("sealed")
    row = await known(api, "sealed") | {"hiredOn": await ago(api, 0), "insurances": ["workInjury", "pension"]}
    await registered(employer, row | {"pensionCode": "120"})
    found = await status(person)
    assert {name: (one["state"], one["code"]) for name, one in found.items()} == {
        "pension": ("active", "120"),
        "unemployment": ("none", None),
        "medical": ("none", None),
        "workInjury": ("active", "410"),
        "maternity": ("none", None),
    }


async def test_somebody_twice_in_one_request_is_registered_once(api: Api) -> None:
    employer, hired = await api.sign_in_staff("employer"), await ago(api, 0)
    one, other = stranger("twice") | {"hiredOn": hired}, stranger("beside") | {"hiredOn": hired}
    items = await registered(employer, one, other, one)
    assert [item["result"] for item in items] == ["registered", "registered", "alreadyRegistered"]
    assert items[0]["registrationId"] == items[2]["registrationId"] != items[1]["registrationId"]


@pytest.mark.parametrize("key", ["sealed", None], ids=["known", "unknown"])
async def test_twenty_requests_at_once_for_one_person_make_one_registration(api: Api, key: str | None) -> None:
    employer = await api.sign_in_staff("employer")
    row = (await known(api, key) if key else stranger("race")) | {"hiredOn": await ago(api, 0)}
    replies = await asyncio.gather(*(registered(employer, row) for _ in range(20)))
    assert Counter(items[0]["result"] for items in replies) == {"registered": 1, "alreadyRegistered": 19}
    assert len({items[0]["registrationId"] for items in replies}) == 1
    if key:
        assert await heard(api, key) == {"insurance_registered": 1}


async def test_a_retry_with_the_same_key_is_the_same_answer(api: Api) -> None:
    employer, hired = await api.sign_in_staff("employer"), await ago(api, 0)
    rows = [stranger(f"retry {n}") | {"hiredOn": hired} for n in range(3)]
    first = await register(employer, *rows, key="once")
    again = await register(employer, *rows, key="once")
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    assert (await register(employer, *rows[:2], key="once")).code == "idempotency_key_reused"
    missing = await employer.post("/v1/employer/registrations", {"rows": rows})
    assert (missing.status, missing.code) == (400, "idempotency_key_missing")


async def test_an_employer_sends_a_hundred_lists_a_day_and_no_more(api: Api) -> None:
    employer, other = await api.sign_in_staff("employer"), await api.sign_in_staff("employer2")
    nobody = stranger("list") | {"hiredOn": "soon"}
    for _ in range(10):
        replies = await asyncio.gather(*(register(employer, nobody) for _ in range(10)))
        assert {reply.status for reply in replies} == {200}
    too_many = await register(employer, nobody)
    assert (too_many.status, too_many.code) == (429, "rate_limited")
    assert int(too_many.headers["Retry-After"]) > 80_000
    assert (await register(other, nobody)).status == 200


async def test_somebody_new_is_known_from_then_on_and_has_no_mobile_to_verify_by(api: Api) -> None:
    employer, person = await api.sign_in_staff("employer"), stranger("new")
    await registered(employer, person | {"hiredOn": await ago(api, 40)})
    started = await api.post("/v1/identity/verifications", {"method": "face"} | person)
    tokens = await api.post(f"/v1/identity/verifications/{started.json['verificationId']}/confirm", {})
    client = api.as_(tokens.json["accessToken"])
    me = (await client.get("/v1/me")).json
    assert (me["regionCode"], me["mobileMasked"], me["nameMasked"][0]) == ("990100", "", person["name"][0])
    assert set((await states(client)).values()) == {"active"}
    assert (await client.get("/v1/cards")).json["items"] == []


async def test_an_employer_registers_in_its_own_region_only(api: Api) -> None:
    employer, row = await api.sign_in_staff("employer"), stranger("region") | {"hiredOn": await ago(api, 0)}
    elsewhere = await register(employer, row, regionCode="990200")
    assert (elsewhere.status, elsewhere.code) == (403, "channel_not_allowed")
    (item,) = await registered(employer, row, regionCode="990100")
    assert item["result"] == "registered"


async def test_only_employers_register_employees_and_only_residents_themselves(api: Api) -> None:
    row = stranger("nobody") | {"hiredOn": await ago(api, 0)}
    for key in ("bank-own", "bureau", "production"):
        reply = await register(await api.sign_in_staff(key), row)
        assert (reply.status, reply.code) == (403, "channel_not_allowed")
    assert (await register(await api.sign_in("sealed"), row)).code == "forbidden"
    employer = await api.sign_in_staff("employer")
    assert (await oneself(employer, "pension")).code == "forbidden"
    assert (await employer.get("/v1/insurance/status")).code == "forbidden"
    assert (await register(api, row)).code == "unauthenticated"


# The end of an employment.


async def test_after_an_employment_the_insurances_are_suspended_and_kept(api: Api) -> None:
    employer, person = await api.sign_in_staff("employer"), await api.sign_in("sealed")
    registration, last = await hire(api, employer, "sealed", 90), await ago(api, 2)
    over = await end(employer, registration, last)
    assert (over.status, over.json["registrationId"], over.json["overdueDays"]) == (200, registration, 60)
    assert (over.json["endedOn"], over.json["endReason"]) == (last, "employmentEnded")
    assert [cover["code"] for cover in over.json["insurances"]] == CODES
    found = await status(person)
    assert {(one["state"], one["since"], one["employer"]) for one in found.values()} == {("suspended", last, EMPLOYER)}
    assert await heard(api, "sealed") == {"insurance_registered": 1, "insurance_suspended": 1}
    actions = [entry["action"] for entry in await person.accesses()]
    assert actions == ["endInsurance", "registerInsurance"]
    card = (await person.get("/v1/cards")).json["items"][0]
    assert card["medicalAccount"] == "normal"


async def test_ending_again_says_the_same_and_changes_nothing(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    registration, last = await hire(api, employer, "sealed", 10), await ago(api, 2)
    first = await end(employer, registration, last)
    yesterday = await ago(api, 1)
    replies = await asyncio.gather(*(end(employer, registration, yesterday, "death") for _ in range(10)))
    assert {(reply.status, reply.raw) for reply in replies} == {(200, first.raw)}
    assert await heard(api, "sealed") == {"insurance_registered": 1, "insurance_suspended": 1}


async def test_many_ends_at_once_are_one_end(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    registration, last = await hire(api, employer, "sealed", 10), await ago(api, 2)
    replies = await asyncio.gather(*(end(employer, registration, last) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.raw for reply in replies}) == 1
    assert await heard(api, "sealed") == {"insurance_registered": 1, "insurance_suspended": 1}


async def test_an_employment_ends_between_its_hiring_and_today(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    registration = await hire(api, employer, "sealed", 10)
    for days, code in ((-1, "in_future"), (11, "before_hiring")):
        reply = await end(employer, registration, await ago(api, days))
        assert (reply.status, reply.code) == (422, "invalid_request")
        assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [("endedOn", code)]
    reply = await end(employer, registration, "yesterday")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [("endedOn", "day_format")]
    assert (await end(employer, registration, await ago(api, 10))).status == 200


async def test_another_employers_registration_is_not_found_and_a_second_employment_is_its_own(api: Api) -> None:
    employer, other = await api.sign_in_staff("employer"), await api.sign_in_staff("employer2")
    person = await api.sign_in("sealed")
    mine, last = await hire(api, employer, "sealed", 10), await ago(api, 0)
    theirs = await hire(api, other, "sealed", 5)
    assert mine != theirs
    for client, registration in ((other, mine), (employer, theirs), (employer, "reg_" + "a" * 24), (employer, "nonsense")):
        reply = await end(client, registration, last)
        assert (reply.status, reply.code) == (404, "not_found")
    assert (await end(employer, mine, last)).status == 200
    assert {one["employer"] for one in (await status(person)).values()} == {"镜澜市虚构单位"}


async def test_an_old_list_brings_nobody_back_and_a_new_hiring_is_a_new_registration(api: Api) -> None:
    employer = await api.sign_in_staff("employer")
    first = await hire(api, employer, "sealed", 10)
    assert (await end(employer, first, await ago(api, 2))).status == 200
    person = await known(api, "sealed")
    for days in (10, 2):
        (old,) = await registered(employer, person | {"hiredOn": await ago(api, days)})
        assert (old["result"], old["code"], old["registrationId"]) == ("refused", "employment_ended", None)
    second = await hire(api, employer, "sealed", 1)
    assert second != first
    assert set((await states(await api.sign_in("sealed"))).values()) == {"active"}


# When the insurance itself ends.


@pytest.mark.parametrize(("key", "before"), [("frozen-medical", "frozen"), ("two-generations", "normal")])
async def test_when_the_insurance_has_ended_the_medical_account_is_paid_out(api: Api, key: str, before: str) -> None:
    await api.at_hour(10)
    employer, person = await api.sign_in_staff("employer2"), await api.sign_in(key)
    cards = (await person.get("/v1/cards")).json["items"]
    assert {card["medicalAccount"] for card in cards} == {before}
    registration, last = await hire(api, employer, key, 10), await ago(api, 0)
    assert (await end(employer, registration, last, "emigration")).status == 200
    assert set((await states(person)).values()) == {"ended"}
    for card in cards:
        after = (await person.get(f"/v1/cards/{card['cardId']}")).json
        assert (after["medicalAccount"], after["status"]) == ("closed", card["status"])
        assert after["version"] == card["version"] + 1
        newest = (await person.get(f"/v1/cards/{card['cardId']}/history")).json["items"][0]
        assert (newest["event"], newest["reason"], newest["channel"]) == ("medicalPaidOut", "emigration", "bureau")
        figures = (await person.get(f"/v1/cards/{card['cardId']}/balance")).json["items"]
        assert [figure["status"] for figure in figures if figure["account"] == "medical"] == ["closed"]
    assert await heard(api, key) == {"insurance_registered": 1, "insurance_ended": 1}


async def test_the_insurance_goes_on_while_another_employment_runs(api: Api) -> None:
    employer, other = await api.sign_in_staff("employer"), await api.sign_in_staff("employer2")
    person = await api.sign_in("sealed")
    mine, theirs = await hire(api, employer, "sealed", 10), await hire(api, other, "sealed", 10)
    assert (await end(employer, mine, await ago(api, 3), "emigration")).status == 200
    assert set((await states(person)).values()) == {"active"}
    assert (await person.get("/v1/cards")).json["items"][0]["medicalAccount"] == "normal"
    # What is told is how it stands when it is told.
    assert await heard(api, "sealed") == {"insurance_registered": 2, "insurance_suspended": 1}
    assert (await end(other, theirs, await ago(api, 1))).status == 200
    assert set((await states(person)).values()) == {"ended"}
    assert (await person.get("/v1/cards")).json["items"][0]["medicalAccount"] == "closed"
    assert await heard(api, "sealed") == {"insurance_registered": 2, "insurance_suspended": 1, "insurance_ended": 1}


async def test_the_persona_whose_insurance_has_ended_is_paid_out(api: Api) -> None:
    person = await api.sign_in("insurance-ended")
    assert set((await states(person)).values()) == {"ended"}
    (card,) = (await person.get("/v1/cards")).json["items"]
    assert (card["medicalAccount"], card["generation"], card["regionCode"]) == ("closed", 2, "990400")
    history = (await person.get(f"/v1/cards/{card['cardId']}/history")).json["items"]
    assert [entry["event"] for entry in history] == ["medicalPaidOut", "activated"]
    anew = await person.post(f"/v1/cards/{card['cardId']}/replacement", {"reason": "expired"}, key="new")
    assert (anew.status, anew.code, anew.json["reason"]) == (409, "application_not_allowed", "insuranceEnded")


async def test_personas_stand_where_their_parts_say_also_after_a_reset(api: Api) -> None:
    expected = {"active": "active", "guardian": "active", "temporarily-lost": "suspended", "flexible-worker": "none"}
    for _ in range(2):
        for key, state in expected.items():
            assert set((await states(await api.sign_in(key, "face"))).values()) == {state}
        employer, worker = await api.sign_in_staff("employer"), await api.sign_in("flexible-worker")
        (item,) = await registered(employer, await known(api, "active") | {"hiredOn": await ago(api, 0)})
        assert item["result"] == "alreadyRegistered"
        assert (await end(employer, item["registrationId"], await ago(api, 0), "death")).status == 200
        assert (await oneself(worker, "pension")).status == 200
        await api.post("/sandbox/reset", {})


# People without an employer.


async def test_a_flexible_worker_registers_and_registering_again_is_the_same_registration(api: Api) -> None:
    worker, now = await api.sign_in("flexible-worker"), await ago(api, 0)
    first = await oneself(worker, "pension", "medical")
    assert first.status == 200
    assert first.json == {
        "registrationId": first.json["registrationId"],
        "regionCode": "990100",
        "insurances": [
            {"type": "pension", "code": "110", "since": now},
            {"type": "medical", "code": "310", "since": now},
        ],
        "since": now,
        "registeredAt": first.json["registeredAt"],
        "overdueDays": 0,
        "endedOn": None,
        "endReason": None,
    }
    for again in (await oneself(worker, "medical", "pension"), await oneself(worker, "pension")):
        assert (again.status, again.json) == (200, first.json)
    found = await status(worker)
    assert {name: (one["state"], one["employer"]) for name, one in found.items()} == {
        "pension": ("active", None),
        "unemployment": ("none", None),
        "medical": ("active", None),
        "workInjury": ("none", None),
        "maternity": ("none", None),
    }
    assert await heard(api, "flexible-worker") == {"insurance_self_registered": 1}


async def test_another_insurance_is_added_to_the_same_registration(api: Api) -> None:
    worker = await api.sign_in("flexible-worker")
    first = (await oneself(worker, "pension", regionCode="990200")).json
    await api.advance(86_400)
    worker = await api.sign_in("flexible-worker")
    second = (await oneself(worker, "pension", "medical")).json
    since = [{"type": "medical", "code": "310", "since": await ago(api, 0)}]
    assert second == first | {"insurances": first["insurances"] + since}
    assert (second["regionCode"], second["insurances"][0]["since"]) == ("990200", await ago(api, 1))


async def test_twenty_registrations_at_once_are_one(api: Api) -> None:
    worker = await api.sign_in("flexible-worker")
    wishes = [("pension",), ("medical",), ("pension", "medical")]
    replies = await asyncio.gather(*(oneself(worker, *wishes[n % 3]) for n in range(21)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.json["registrationId"] for reply in replies}) == 1
    found = (await oneself(worker, "pension")).json["insurances"]
    assert sorted(cover["code"] for cover in found) == ["110", "310"]


async def test_who_is_insured_by_an_employer_is_told_so_and_may_register_when_that_is_over(api: Api) -> None:
    employer, worker = await api.sign_in_staff("employer"), await api.sign_in("sealed")
    registration = await hire(api, employer, "sealed", 10)
    refused = await oneself(worker, "medical")
    assert (refused.status, refused.code) == (409, "already_insured")
    assert (await end(employer, registration, await ago(api, 0))).status == 200
    assert (await oneself(worker, "medical")).status == 200
    assert (await states(worker))["medical"] == "active"
    assert (await states(worker))["pension"] == "suspended"


async def test_an_employment_that_insures_in_something_else_stands_in_nobodys_way(api: Api) -> None:
    employer, worker = await api.sign_in_staff("employer"), await api.sign_in("flexible-worker")
    row = await known(api, "flexible-worker") | {"hiredOn": await ago(api, 0), "insurances": ["workInjury"]}
    await registered(employer, row)
    assert (await oneself(worker, "pension")).status == 200
    assert (await states(worker))["pension"] == (await states(worker))["workInjury"] == "active"


async def test_an_employer_takes_over_what_somebody_had_of_their_own(api: Api) -> None:
    employer, worker = await api.sign_in_staff("employer"), await api.sign_in("flexible-worker")
    own = (await oneself(worker, "pension", "medical")).json["registrationId"]
    registration = await hire(api, employer, "flexible-worker")
    assert {one["employer"] for one in (await status(worker)).values()} == {EMPLOYER}
    # Asking for messages waits for all that follows from it.
    assert await heard(api, "flexible-worker") == {"insurance_self_registered": 1, "insurance_registered": 1}
    assert (await end(employer, registration, await ago(api, 0))).status == 200
    assert set((await states(worker)).values()) == {"suspended"}
    assert (await oneself(worker, "pension")).json["registrationId"] != own


async def test_employer_and_person_at_once_leave_no_two_that_run(api: Api) -> None:
    employer, worker = await api.sign_in_staff("employer"), await api.sign_in("flexible-worker")
    person = await known(api, "flexible-worker")
    for days in (20, 17, 14, 11, 8):
        row = person | {"hiredOn": await ago(api, days)}
        (item,), own = await asyncio.gather(registered(employer, row), oneself(worker, "pension", "medical"))
        assert item["result"] == "registered"
        assert own.status == 200 or (own.status, own.code) == (409, "already_insured")
        # Asking for messages waits for all that follows from it.
        await heard(api, "flexible-worker")
        assert (await end(employer, item["registrationId"], row["hiredOn"])).status == 200
        assert (await states(worker))["pension"] == "suspended"


async def test_what_nobody_can_register_for_alone_is_refused(api: Api) -> None:
    worker = await api.sign_in("flexible-worker")
    for insurances in (["workInjury"], ["pension", "maternity"], []):
        assert (await oneself(worker, *insurances)).code == "invalid_request"
    nowhere = await oneself(worker, "pension", regionCode="999999")
    assert [(error["field"], error["code"]) for error in nowhere.json["errors"]] == [("regionCode", "not_allowed")]
    weak = await api.sign_in("flexible-worker", "password")
    reply = await oneself(weak, "pension")
    assert (reply.status, reply.code, reply.json["requiredAssurance"]) == (403, "assurance_too_low", 2)
    assert (await states(weak))["pension"] == "none"
    minor = await oneself(await api.sign_in("minor", "face"), "medical")
    assert (minor.status, minor.code) == (409, "under_working_age")
