"""Counters: who sees whom, who activates what for whom and with which materials, and what is written down about it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api.client import Api
from api.counters import (
    ACTIVATIONS,
    ADULT,
    LOOK_UPS,
    MINOR,
    activate,
    activation,
    card_of,
    guardian_of,
    look_up,
    made_up_id_number,
    numbers,
    plain,
    told,
    written,
)

from service.config import Config
from service.server import Served, serving

CHANNELS = {"bank-own": "bank", "hospital": "hospital", "bureau": "bureau", "bureau-supervisor": "bureau"}
ROLES = {
    "bank-own": "bankTeller",
    "hospital": "hospitalClerk",
    "bureau": "bureauClerk",
    "bureau-supervisor": "bureauSupervisor",
    "hotline": "hotlineAgent",
}
TICKET = "T20261122-0042"


@pytest.fixture
async def second(config: Config, served: Served) -> AsyncIterator[Served]:
    """Another process, as far as the database can tell."""
    del served
    async with serving(config) as running:
        yield running


# Looking people up.


async def test_an_operator_sees_a_person_masked_with_what_the_operator_may_do(api: Api) -> None:
    teller = await api.sign_in_staff("bank-own")
    person = await api.persona("sealed")
    shown = await look_up(teller, "sealed", reason="activation")
    assert shown.status == 200
    assert shown.json["nameMasked"] == person["name"][0] + "*" * (len(person["name"]) - 1)
    assert shown.json["idNumberMasked"] == f"{person['idNumber'][:6]}********{person['idNumber'][-4:]}"
    assert shown.json["mobileMasked"] == f"{person['mobile'][:3]}****{person['mobile'][-4:]}"
    (card,) = shown.json["cards"]
    assert (card["cardId"], card["status"], card["productionStage"]) == (person["cards"][0]["cardId"], "sealed", "delivered")
    assert (card["medicalAccount"], card["servicePin"]["state"], card["bank"]["code"]) == ("normal", "initial", "B901")
    actions = {action["action"]: action["reason"] for action in card["actions"]}
    assert actions["activate"] is None
    assert actions["activateBank"] == "sealed"
    assert "cancel" not in actions
    for secret in (person["idNumber"], person["name"], person["mobile"], person["cards"][0]["cardNumber"]):
        assert secret.encode() not in shown.raw


@pytest.mark.parametrize("key", ROLES)
async def test_each_counter_is_offered_what_its_role_may_do(api: Api, key: str) -> None:
    operator = await api.sign_in_staff(key)
    (card,) = (await look_up(operator, "active", ticket=TICKET)).json["cards"]
    offered = {action["action"] for action in card["actions"] if action["allowed"]}
    expected = {
        "bank-own": {"reportTemporaryLoss", "reportFormalLoss", "resetPin"},
        "hospital": {"changePin", "checkPin"},
        "hotline": {"reportTemporaryLoss"},
    }
    bureau = {
        "reportTemporaryLoss",
        "reportFormalLoss",
        "replace",
        "lock",
        "cancel",
        "reverseActivation",
        "changePin",
        "resetPin",
    }
    assert offered == expected.get(key, bureau)


@pytest.mark.parametrize(
    ("operator", "person"),
    [
        ("bank-other", "sealed"),
        ("bureau2", "sealed"),
        ("bureau", "not-interconnected"),
        ("bureau", "two-generations"),
        ("bureau", "frozen-medical"),
    ],
)
async def test_who_is_out_of_reach_is_nobody(api: Api, operator: str, person: str) -> None:
    client = await api.sign_in_staff(operator)
    out_of_reach = await look_up(client, person)
    nobody = await client.post(LOOK_UPS, {"idNumber": made_up_id_number(1), "reason": "enquiry"})
    assert (nobody.status, nobody.code) == (404, "not_found")
    assert plain(out_of_reach) == plain(nobody)
    assert {*out_of_reach.headers} == {*nobody.headers}


async def test_a_look_is_in_the_log_of_whom_it_was_about_also_when_nothing_was_shown(api: Api) -> None:
    teller, other, agent = [await api.sign_in_staff(key) for key in ("bank-own", "bank-other", "hotline")]
    assert (await look_up(teller, "active", reason="loss")).status == 200
    assert (await look_up(other, "active", reason="pin")).status == 404
    assert (await look_up(agent, "active", ticket=TICKET)).status == 200
    assert await written(api, "active") == [
        ("lookUp", "hotlineAgent", "hotline", "enquiry", TICKET),
        ("lookUp", "bankTeller", "bank", "pin", None),
        ("lookUp", "bankTeller", "bank", "loss", None),
    ]


async def test_on_the_phone_a_look_needs_the_ticket_of_the_call(api: Api) -> None:
    agent = await api.sign_in_staff("hotline")
    reply = await look_up(agent, "active")
    assert (reply.status, reply.json["errors"][0]["field"], reply.json["errors"][0]["code"]) == (422, "ticket", "missing")
    person = await api.persona("active")
    for number in (person["idNumber"], person["mobile"]):
        reply = await look_up(agent, "active", ticket=number)
        assert (reply.status, reply.json["errors"][0]["code"]) == (422, "personal_number")
    reply = await look_up(agent, "active", ticket=TICKET, reason="his wife asked")
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "reason")
    assert await written(api, "active") == []


async def test_who_stands_behind_no_counter_looks_nobody_up(api: Api) -> None:
    for key in ("employer", "production"):
        reply = await look_up(await api.sign_in_staff(key), "active")
        assert (reply.status, reply.code) == (403, "channel_not_allowed")
    resident = await look_up(await api.sign_in("active"), "active")
    assert (resident.status, resident.code) == (403, "forbidden")
    assert (await look_up(api, "active")).status == 401


async def test_thirty_people_an_hour_and_no_more_however_many_at_once_over_two_processes(api: Api, second: Served) -> None:
    clerk = await api.sign_in_staff("bureau")
    known = (await api.persona("active"))["idNumber"]
    people = [known, *(made_up_id_number(number) for number in range(59))]
    async with Api(second.url) as other:
        clients = (clerk, other.as_(clerk.token))
        bodies = [{"idNumber": number, "reason": "enquiry"} for number in people for _ in range(2)]
        replies = await asyncio.gather(*(clients[n % 2].post(LOOK_UPS, body) for n, body in enumerate(bodies)))
    seen = {body["idNumber"] for body, reply in zip(bodies, replies, strict=True) if reply.status in {200, 404}}
    refused = [reply for reply in replies if reply.status == 429]
    assert len(seen) == 30
    assert len(refused) == 60
    assert {reply.code for reply in refused} == {"rate_limited"}
    assert all(3500 <= int(reply.headers["Retry-After"]) <= 3600 for reply in refused)
    # Who was looked at within the hour may be looked at again, anybody else not; another operator has an hour of their own.
    for number in people:
        again = await clerk.post(LOOK_UPS, {"idNumber": number, "reason": "enquiry"})
        assert (again.status == 429) == (number not in seen)
    supervisor = await api.sign_in_staff("bureau-supervisor")
    assert (await look_up(supervisor, "active")).status == 200


async def test_one_person_looked_at_all_day_is_one_person(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    assert {(await look_up(clerk, "active")).status for _ in range(40)} == {200}
    for number in range(29):
        assert (await clerk.post(LOOK_UPS, {"idNumber": made_up_id_number(number), "reason": "enquiry"})).status == 404
    assert (await look_up(clerk, "sealed")).status == 429
    assert (await look_up(clerk, "active")).status == 200
    await api.advance(3600)
    clerk = await api.sign_in_staff("bureau")
    assert (await look_up(clerk, "sealed")).status == 200


# Activating at a counter.


@pytest.mark.parametrize("key", CHANNELS)
async def test_every_counter_activates_a_card_of_its_own(api: Api, key: str) -> None:
    operator = await api.sign_in_staff(key)
    done = await activate(operator, "sealed")
    assert done.status == 200, done.raw
    assert (done.json["result"], done.json["channel"]) == ("activated", CHANNELS[key])
    assert done.json["message"] == "您的社会保障卡已激活"
    assert (await api.post("/v1/receipts/verify", {"receipt": done.json["receipt"]})).json["valid"] is True
    again = await activate(operator, "sealed")
    assert {**again.json, "receipt": ""} == {**done.json, "result": "alreadyActivated", "receipt": ""}
    assert await told(api, "sealed") == ["card_activated"]
    card = await card_of(api, "sealed")
    assert card["functions"]["social"]["channel"] == CHANNELS[key]
    assert card["functions"]["bank"]["status"] == "pending"
    assert await written(api, "sealed") == [("activate", ROLES[key], CHANNELS[key], None, None)] * 2


@pytest.mark.parametrize("functions", [["social"], ["bank"], ["social", "bank"]])
async def test_another_bank_touches_nothing_and_is_told_where_to_go(api: Api, functions: list[str]) -> None:
    other = await api.sign_in_staff("bank-other")
    for key in ("sealed", "active"):
        reply = await activate(other, key, functions=functions)
        assert (reply.status, reply.code) == (403, "channel_not_allowed")
        assert "bureau" in reply.json["channels"]
    assert (await card_of(api, "sealed"))["status"] == "sealed"


async def test_the_bank_on_the_card_activates_both_functions_at_once(api: Api) -> None:
    teller = await api.sign_in_staff("bank-own")
    done = await activate(teller, "sealed", functions=["social", "bank"])
    assert (done.status, done.json["result"]) == (200, "activated")
    card = await card_of(api, "sealed")
    assert (card["functions"]["social"]["active"], card["functions"]["bank"]["status"], card["version"]) == (True, "active", 1)


async def test_the_account_on_a_card_in_use_is_activated_by_itself_and_once(api: Api) -> None:
    online = await api.sign_in("sealed")
    first = (await online.activate(await api.details("sealed"))).json
    teller = await api.sign_in_staff("bank-own")
    for _ in range(2):
        done = await activate(teller, "sealed", functions=["bank"])
        assert (done.status, done.json["result"], done.json["activationId"]) == (200, "alreadyActivated", first["activationId"])
    assert (await card_of(api, "sealed"))["functions"]["bank"]["status"] == "active"
    assert sorted(await told(api, "sealed")) == ["bank_activated", "card_activated"]


async def test_the_account_alone_waits_for_the_card(api: Api) -> None:
    teller = await api.sign_in_staff("bank-own")
    reply = await activate(teller, "sealed", functions=["bank"])
    assert (reply.status, reply.code, reply.json["from"]) == (409, "transition_not_allowed", "sealed")
    assert "activate" in reply.json["allowed"]
    card = await card_of(api, "sealed")
    assert (card["status"], card["functions"]["bank"]["status"]) == ("sealed", "pending")


@pytest.mark.parametrize("key", ["hospital", "bureau", "bureau-supervisor"])
async def test_only_a_bank_activates_an_account(api: Api, key: str) -> None:
    operator = await api.sign_in_staff(key)
    for functions in (["bank"], ["social", "bank"]):
        reply = await activate(operator, "sealed", functions=functions)
        assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["bank"])
    assert (await card_of(api, "sealed"))["status"] == "sealed"


@pytest.mark.parametrize(
    ("operator", "person"),
    [("bureau2", "sealed"), ("bureau", "not-interconnected"), ("bureau", "frozen-medical"), ("bank-own", "two-generations")],
)
async def test_a_card_of_another_region_is_not_activated_here(api: Api, operator: str, person: str) -> None:
    client = await api.sign_in_staff(operator)
    card = 1 if person == "two-generations" else 0
    reply = await activate(client, person, **await numbers(api, person, card))
    assert (reply.status, reply.code) == (403, "channel_not_allowed")
    assert "bureau" in reply.json["channels"]
    assert (await card_of(api, person, card))["status"] == "sealed"


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ([], ["material_card", "material_idCard"]),
        (["card"], ["material_idCard"]),
        (["idCard", "householdRegister"], ["material_card"]),
        (MINOR[1:], ["material_card", "material_idCard"]),
    ],
)
async def test_what_was_not_shown_is_named(api: Api, shown: list[str], missing: list[str]) -> None:
    clerk = await api.sign_in_staff("bureau")
    reply = await activate(clerk, "sealed", materials=shown)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [("materials", code) for code in missing]
    assert (await card_of(api, "sealed"))["status"] == "sealed"


@pytest.mark.parametrize(
    "shown",
    [
        ["card", "householdRegister"],
        ["card", "idCard", "disabilityCertificate"],
        ["idCard", "studentCard", "card"],
    ],
)
async def test_special_groups_bring_what_the_guide_asks_of_them(api: Api, shown: list[str]) -> None:
    clerk = await api.sign_in_staff("bureau")
    assert (await activate(clerk, "sealed", materials=shown)).json["result"] == "activated"


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
async def test_a_card_in_the_wrong_state_is_refused_as_online_and_written_down(api: Api, person: str, reason: str) -> None:
    for key in ("bank-own", "hospital", "bureau"):
        reply = await activate(await api.sign_in_staff(key), person)
        assert (reply.status, reply.code, reply.json["reason"]) == (409, "card_not_activatable", reason)
    assert [entry[:2] for entry in await written(api, person)] == [
        ("activate", "bureauClerk"),
        ("activate", "hospitalClerk"),
        ("activate", "bankTeller"),
    ]


@pytest.mark.parametrize("person", ["hk-resident", "retired-region-id", "cross-region"])
async def test_people_whose_numbers_are_rare_are_people(api: Api, person: str) -> None:
    assert (await activate(await api.sign_in_staff("bureau"), person)).json["result"] == "activated"


# For a minor.


@pytest.mark.parametrize("key", ["bank-own", "hospital", "bureau"])
async def test_a_minor_comes_with_a_guardian_of_the_household(api: Api, key: str) -> None:
    operator = await api.sign_in_staff(key)
    alone = await activate(operator, "unlinked-minor", materials=MINOR)
    assert (alone.status, alone.code) == (403, "guardian_required")
    there = await guardian_of(api)
    unshown = await activate(operator, "unlinked-minor", guardian=there)
    assert (unshown.status, [error["code"] for error in unshown.json["errors"]]) == (
        422,
        ["material_guardianIdCard", "material_householdRegister"],
    )
    done = await activate(operator, "unlinked-minor", materials=MINOR, guardian=there)
    assert (done.status, done.json["result"]) == (200, "activated")
    assert await told(api, "guardian") == ["card_activated"]
    assert await told(api, "unlinked-minor") == []
    guardian = await api.sign_in("guardian")
    assert (await guardian.get(f"/v1/activations/{done.json['activationId']}")).status == 200
    assert await written(api, "unlinked-minor") == [("activate", ROLES[key], CHANNELS[key], None, None)] * 3
    assert await written(api, "guardian") == [("activate", ROLES[key], CHANNELS[key], "guardian", None)] * 2


async def test_who_is_no_guardian_of_the_household_is_told_nothing(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    right, stranger = await guardian_of(api), await guardian_of(api, "active")
    sibling = await guardian_of(api, "minor")
    wrong = [
        right | {"householdRegister": stranger["householdRegister"]},
        right | {"idNumber": stranger["idNumber"]},
        stranger,
        sibling,
        right | {"idNumber": made_up_id_number(3)},
    ]
    replies = [await activate(clerk, "unlinked-minor", materials=MINOR, guardian=there) for there in wrong]
    assert {(reply.status, reply.code) for reply in replies} == {(422, "household_mismatch")}
    assert len({str(plain(reply)) for reply in replies}) == 1
    assert await written(api, "unlinked-minor") == []


async def test_a_grown_up_needs_no_guardian(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    reply = await activate(clerk, "sealed", guardian=await guardian_of(api))
    assert (reply.status, reply.json["errors"][0]["field"], reply.json["errors"][0]["code"]) == (422, "guardian", "not_needed")


# Guessing.


async def test_which_of_two_numbers_is_wrong_is_not_told(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    sealed, other = await numbers(api, "sealed"), await numbers(api, "sealed2")
    wrong = [
        sealed | {"cardNumber": other["cardNumber"]},
        other | {"cardNumber": sealed["cardNumber"]},
        sealed | {"idNumber": made_up_id_number(5)},
        sealed | {"cardNumber": "A00000009"},
    ]
    replies = [await activate(clerk, "sealed", **guess) for guess in wrong]
    assert {(reply.status, reply.code) for reply in replies} == {(422, "card_details_mismatch")}
    assert len({str(plain(reply)) for reply in replies}) == 1
    assert await written(api, "sealed") == []


async def test_twenty_wrong_ones_an_hour_and_no_more_however_many_at_once(api: Api, second: Served) -> None:
    clerk = await api.sign_in_staff("bureau")
    right = await activation(api, "sealed")
    guesses = [right | {"cardNumber": f"A{number:08d}"} for number in range(60)]
    async with Api(second.url) as other:
        clients = (clerk, other.as_(clerk.token))
        replies = await asyncio.gather(*(clients[n % 2].post(ACTIVATIONS, guess, key="new") for n, guess in enumerate(guesses)))
    codes = Counter(reply.code for reply in replies)
    assert 1 <= codes["card_details_mismatch"] <= 20
    assert codes["card_details_mismatch"] + codes["too_many_attempts"] == 60
    for guess in guesses[:20]:
        await clerk.post(ACTIVATIONS, guess, key="new")
    locked = await clerk.post(ACTIVATIONS, right, key="new")
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    assert (await activate(await api.sign_in_staff("bank-own"), "sealed")).status == 200


async def test_right_ones_are_no_guesses(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    assert {(await activate(clerk, "active")).status for _ in range(30)} == {200}


# Once.


async def test_a_retry_gets_the_same_bytes(api: Api) -> None:
    teller = await api.sign_in_staff("bank-own")
    first = await activate(teller, "sealed", "one-key", functions=["social", "bank"])
    again = await activate(teller, "sealed", "one-key", functions=["social", "bank"])
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    assert (await activate(teller, "sealed", "one-key")).code == "idempotency_key_reused"
    missing = await teller.post(ACTIVATIONS, await activation(api, "sealed"))
    assert (missing.status, missing.code) == (400, "idempotency_key_missing")
    assert len(await written(api, "sealed")) == 1
    # A key belongs to its caller.
    clerk = await api.sign_in_staff("bureau")
    assert (await activate(clerk, "sealed", "one-key")).json["result"] == "alreadyActivated"


async def test_twenty_counters_and_the_app_at_once_make_one_activation(api: Api) -> None:
    online, details = await api.sign_in("sealed"), await api.details("sealed")
    operators = [await api.sign_in_staff(key) for key in CHANNELS]
    body: dict[str, Any] = await activation(api, "sealed")
    works = [operator.post(ACTIVATIONS, body, key="new") for operator in operators for _ in range(5)]
    replies = await asyncio.gather(*works, *(online.activate(details) for _ in range(5)))
    assert {reply.status for reply in replies} == {200}
    assert Counter(reply.json["result"] for reply in replies) == {"activated": 1, "alreadyActivated": 24}
    assert len({reply.json["activationId"] for reply in replies}) == 1
    assert (await card_of(api, "sealed"))["version"] == 1
    assert await told(api, "sealed") == ["card_activated"]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("functions", [], "too_short"),
        ("functions", ["payment"], "not_allowed"),
        ("materials", ["letter"], "not_allowed"),
        ("code", "123456", "not_needed"),
        ("cardNumber", 5, "wrong_type"),
        ("identificationCode", "x", "unknown_field"),
    ],
)
async def test_what_is_no_activation_is_named(api: Api, field: str, value: Any, code: str) -> None:
    clerk = await api.sign_in_staff("bureau")
    reply = await activate(clerk, "sealed", **{field: value})
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"].partition(".")[0], error["code"]) for error in reply.json["errors"]] == [(field, code)]


async def test_who_stands_behind_no_counter_activates_nothing(api: Api) -> None:
    for key in ("employer", "production"):
        reply = await activate(await api.sign_in_staff(key), "sealed")
        assert (reply.status, reply.code) == (403, "channel_not_allowed")
    resident = await activate(await api.sign_in("sealed"), "sealed", materials=ADULT)
    assert (resident.status, resident.code) == (403, "forbidden")
