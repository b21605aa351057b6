"""What operators do with cards at their counters, and what they are refused."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from api.client import Api, Reply

from service.mongo.client import Database
from service.operators import Operator
from service.sandbox.personas import cast, staff
from service.sandbox.roster import OPERATORS
from service.server import Served
from service.transitions import TRANSITIONS, Action, judge, needs_second_person

WITH_CARD = ["card", "idCard"]
WITHOUT_CARD = ["idCard"]
MINORS = ["card", "guardianIdCard", "householdRegister"]
EVERYTHING = ["card", "idCard", "guardianIdCard", "householdRegister"]

# Every action that has a route of its own here, with a body that leaves nothing to ask for.
ROUTES: dict[Action, tuple[str, dict[str, Any]]] = {
    Action.REPORT_TEMPORARY_LOSS: ("loss", {"kind": "temporary", "materials": EVERYTHING}),
    Action.REPORT_FORMAL_LOSS: ("loss", {"kind": "formal", "materials": EVERYTHING}),
    Action.CANCEL_LOSS: ("loss/cancel", {"materials": EVERYTHING}),
    Action.LOCK: ("lock", {"reason": "holderRequest", "materials": EVERYTHING}),
    Action.UNLOCK: ("unlock", {"materials": EVERYTHING}),
    Action.CANCEL: ("cancel", {"reason": "emigration", "materials": EVERYTHING}),
    Action.REVERSE_ACTIVATION: ("activation/reverse", {"reason": "the wrong person"}),
    Action.RESET_PIN: ("pin/reset", {"materials": EVERYTHING}),
    Action.ACTIVATE_BANK: ("bank-activation", {"materials": EVERYTHING}),
}
# Done elsewhere: at activation, by application, and with a PIN in hand.
ELSEWHERE = {Action.ACTIVATE, Action.REPLACE, Action.CHANGE_PIN, Action.CHECK_PIN}


async def card_id(api: Api, key: str, card: int = 0) -> str:
    return str((await api.persona(key))["cards"][card]["cardId"])


async def do(api: Api, what: str, card: str, body: dict[str, Any], key: str = "new") -> Reply:
    return await api.post(f"/v1/staff/cards/{card}/{what}", body, key=key)


async def as_holder(api: Api, key: str) -> Api:
    return await api.sign_in(key, "face")


async def history(api: Api, key: str) -> list[tuple[str, str, str, str | None]]:
    """What happened to a persona's card, newest first, as its holder sees it."""
    client = await as_holder(api, key)
    items = (await client.get(f"/v1/cards/{await card_id(api, key)}/history")).json["items"]
    return [(item["event"], item["to"], item["channel"], item["reason"]) for item in items]


async def templates(api: Api, key: str) -> list[str]:
    """What a persona was told, but for codes and of sign-ins; newest first."""
    sent = [message["template"] for message in await api.messages((await api.persona(key))["mobile"])]
    return [template for template in sent if template not in {"verification_code", "new_device"}]


async def call_code(agent: Api, api: Api, key: str, ticket: str = "T-1") -> str:
    """The code that a caller reads back."""
    person = await api.persona(key)
    body = {"idNumber": person["idNumber"], "ticket": ticket}
    assert (await agent.post("/v1/staff/hotline/codes", body)).status == 200
    return await api.code_sent_to(person["mobile"])


# What each counter does.


async def test_a_loss_at_a_bureau_is_reported_told_and_written_down(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    reply = await do(bureau, "loss", card, {"kind": "formal", "reason": "stolen", "materials": WITHOUT_CARD})
    assert (reply.status, reply.json["status"]) == (200, "formallyLost")
    # The answer is masked and offers what this operator may do, and no other.
    person = await api.persona("active")
    assert all(secret not in str(reply.json) for secret in (person["name"], person["cards"][0]["cardNumber"]))
    offered = {offer["action"]: offer["allowed"] for offer in reply.json["actions"]}
    assert offered["cancelLoss"] is True
    assert offered["lock"] is False
    assert "activateBank" not in offered
    assert (await history(api, "active"))[0] == ("formalLossReported", "formallyLost", "bureau", None)
    assert (await templates(api, "active"))[0] == "formal_loss_reported"
    log = await (await as_holder(api, "active")).accesses()
    assert [(entry["action"], entry["by"], entry["channel"], entry["reason"]) for entry in log] == [
        ("reportFormalLoss", "bureauClerk", "bureau", "stolen")
    ]


async def test_a_loss_is_cancelled_at_a_bureau_when_the_card_is_found(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "temporarily-lost")
    reply = await do(bureau, "loss/cancel", card, {"materials": WITHOUT_CARD})
    assert (reply.status, reply.json["status"]) == (200, "active")


async def test_a_locked_card_is_unlocked_by_one_person_unless_it_was_fraud(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    locked = await do(bureau, "lock", card, {"reason": "holderRequest", "materials": WITH_CARD})
    assert (locked.status, locked.json["status"]) == (200, "locked")
    unlocked = await do(bureau, "unlock", card, {"materials": WITH_CARD})
    assert (unlocked.status, unlocked.json["status"]) == (200, "active")
    # Fraud is locked without its holder; unlocking it takes somebody else.
    assert (await do(bureau, "lock", card, {"reason": "fraud"})).json["status"] == "locked"
    asked = await do(bureau, "unlock", card, {"materials": WITH_CARD, "reason": "a mix-up"})
    assert (asked.status, asked.json["kind"], asked.json["state"]) == (202, "unlock", "pending")
    assert [event for event, *_ in await history(api, "active")][:3] == ["locked", "unlocked", "locked"]
    assert (await templates(api, "active"))[:3] == ["card_locked", "card_unlocked", "card_locked"]


async def test_a_pin_is_reset_at_a_bank_and_must_then_be_changed(api: Api) -> None:
    bank, card = await api.sign_in_staff("bank-own"), await card_id(api, "active")
    reply = await do(bank, "pin/reset", card, {"materials": WITH_CARD})
    assert (reply.status, reply.json["servicePin"]["state"]) == (200, "initial")
    hospital, person = await api.sign_in_staff("hospital"), await api.persona("active")
    for pin in (person["servicePin"], person["idNumber"].removesuffix("X")[-6:]):
        refused = await hospital.post("/v1/staff/pin-checks", {"cardId": card, "pin": pin})
        assert (refused.status, refused.code) == (403, "pin_change_required")


async def test_a_bank_activates_the_account_on_a_card_in_use(api: Api) -> None:
    bank, card = await api.sign_in_staff("bank-own"), await card_id(api, "sealed")
    refused = await do(bank, "bank-activation", card, {"materials": WITH_CARD})
    assert (refused.status, refused.code, refused.json["from"]) == (409, "transition_not_allowed", "sealed")
    client = await api.sign_in("sealed")
    assert (await client.activate(await api.details("sealed"))).status == 200
    reply = await do(bank, "bank-activation", card, {"materials": WITH_CARD})
    assert (reply.status, reply.json["functions"]["bank"]["status"]) == (200, "active")
    again = await do(bank, "bank-activation", card, {"materials": WITH_CARD})
    assert (again.status, again.json["reason"]) == (409, "bankActive")
    assert "bank_activated" in await templates(api, "sealed")


# On the phone.


async def test_the_hotline_stops_a_card_for_a_time_for_who_reads_the_code_back(api: Api) -> None:
    agent, card = await api.sign_in_staff("hotline"), await card_id(api, "active")
    code = await call_code(agent, api, "active")
    body = {"kind": "temporary", "ticket": "T-1", "code": code}
    wrong = await do(agent, "loss", card, body | {"code": f"{(int(code) + 1) % 1_000_000:06}"})
    assert (wrong.status, wrong.code) == (403, "verification_failed")
    assert (await do(agent, "loss", card, body | {"ticket": "T-2"})).status in {403, 410}
    reply = await do(agent, "loss", card, body)
    assert (reply.status, reply.json["status"]) == (200, "temporarilyLost")
    assert (await history(api, "active"))[0] == ("temporaryLossReported", "temporarilyLost", "hotline", None)
    log = await (await as_holder(api, "active")).accesses()
    assert ("reportTemporaryLoss", "hotlineAgent", "hotline", "T-1") in [
        (entry["action"], entry["by"], entry["channel"], entry["ticket"]) for entry in log
    ]


async def test_a_code_that_was_read_back_is_good_for_one_request_however_many_come_at_once(api: Api) -> None:
    agent, card = await api.sign_in_staff("hotline"), await card_id(api, "active")
    body = {"kind": "temporary", "ticket": "T-1", "code": await call_code(agent, api, "active")}
    replies = await asyncio.gather(*(do(agent, "loss", card, body) for _ in range(10)))
    assert [reply.status for reply in replies].count(200) == 1
    assert {reply.code for reply in replies if reply.status != 200} <= {
        *("verification_used", "verification_locked", "transition_not_allowed"),
    }
    assert [event for event, *_ in await history(api, "active")].count("temporaryLossReported") == 1


async def test_a_request_that_did_its_work_and_lost_its_answer_is_told_so(api: Api, database: Database) -> None:
    """As after a kill: the code is used, the card is changed, and nobody remembers the answer."""
    agent, bureau = await api.sign_in_staff("hotline"), await api.sign_in_staff("bureau")
    card = await card_id(api, "active")
    body = {"kind": "temporary", "ticket": "T-1", "code": await call_code(agent, api, "active")}
    unlocking = {"materials": WITH_CARD}
    assert (await do(bureau, "lock", card, {"reason": "holderRequest", "materials": WITH_CARD})).status == 200
    assert (await do(bureau, "unlock", card, unlocking, "unlock")).status == 200
    first = await do(agent, "loss", card, body, "lost")
    over = {"$set": {"leaseUntil": datetime(2020, 1, 1, tzinfo=UTC), "answer": None}}
    await database.collection("idempotency").update_all({}, over)
    again = await do(agent, "loss", card, body, "lost")
    assert (again.status, again.json) == (first.status, first.json) == (200, first.json)
    # An answer to what was done is no question, whatever became of the card since.
    assert (await do(bureau, "loss/cancel", card, {"materials": WITHOUT_CARD})).status == 200
    assert (await do(bureau, "lock", card, {"reason": "fraud"})).status == 200
    assert (await do(bureau, "unlock", card, unlocking, "unlock")).json["status"] == "locked"
    assert [event for event, *_ in await history(api, "active")].count("temporaryLossReported") == 1


@pytest.mark.parametrize("missing", ["ticket", "code"])
async def test_the_hotline_does_nothing_without_ticket_and_code(api: Api, missing: str) -> None:
    agent, card = await api.sign_in_staff("hotline"), await card_id(api, "active")
    body = {"kind": "temporary", "ticket": "T-1", "code": "123456"}
    del body[missing]
    reply = await do(agent, "loss", card, body)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [(missing, "missing")]
    assert len(await history(api, "active")) == 1


async def test_the_hotline_reports_no_formal_loss(api: Api) -> None:
    agent, card = await api.sign_in_staff("hotline"), await card_id(api, "active")
    reply = await do(agent, "loss", card, {"kind": "formal", "ticket": "T-1", "code": "123456"})
    assert (reply.status, reply.code) == (403, "channel_not_allowed")
    assert "hotline" not in reply.json["channels"]


# What has to be shown.


@pytest.mark.parametrize(
    ("persona", "what", "body", "missing"),
    [
        ("active", "lock", {"reason": "holderRequest"}, ["material_card", "material_idCard"]),
        ("active", "lock", {"reason": "holderRequest", "materials": ["card"]}, ["material_idCard"]),
        ("active", "loss", {"kind": "formal", "materials": ["card"]}, ["material_idCard"]),
        ("temporarily-lost", "loss/cancel", {}, ["material_idCard"]),
        ("locked", "unlock", {"materials": ["idCard"]}, ["material_card"]),
        ("active", "cancel", {"reason": "emigration"}, ["material_card", "material_idCard"]),
        ("minor", "pin/reset", {"materials": WITH_CARD}, ["material_guardianIdCard", "material_householdRegister"]),
        ("minor", "pin/reset", {"materials": ["card", "guardianIdCard"]}, ["material_householdRegister"]),
    ],
)
async def test_what_was_not_shown_is_named_and_nothing_is_done(
    api: Api, persona: str, what: str, body: dict[str, Any], missing: list[str]
) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, persona)
    reply = await do(bureau, what, card, body)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [error["code"] for error in reply.json["errors"]] == missing
    assert {error["field"] for error in reply.json["errors"]} == {"materials"}
    log = await (await as_holder(api, persona)).accesses() if persona != "minor" else []
    assert log == []


async def test_who_has_no_id_card_shows_the_household_register(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    reply = await do(bureau, "pin/reset", card, {"materials": ["card", "householdRegister"]})
    assert reply.status == 200


async def test_a_minors_card_is_served_for_guardian_and_household_register(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "minor")
    assert (await do(bureau, "pin/reset", card, {"materials": MINORS})).status == 200


async def test_a_code_at_a_window_is_a_mistake(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    reply = await do(bureau, "loss", card, {"kind": "formal", "materials": WITHOUT_CARD, "code": "123456"})
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [("code", "unknown_field")]


# Who may, generated from the table.


def _operators(served: Served) -> dict[str, Operator]:
    return {one.key: one.operator for one in staff(cast(served.process.services.regions))}


def test_every_action_of_the_table_has_its_route_here_or_is_done_elsewhere() -> None:
    assert {*ROUTES} | ELSEWHERE == {*TRANSITIONS}
    assert not {*ROUTES} & ELSEWHERE


@pytest.mark.parametrize("key", [row.key for row in OPERATORS])
async def test_every_route_answers_as_the_table_says_for_every_card(api: Api, served: Served, key: str) -> None:
    """Each answer against the judgement of the table on the card as it is at that moment."""
    services, operator = served.process.services, _operators(served)[key]
    client = await api.sign_in_staff(key)
    personas = (await api.get("/sandbox/personas")).json["items"]
    cards = [(persona["key"], card["cardId"]) for persona in personas for card in persona["cards"]]
    assert len(cards) > 20
    phone = operator.role == "hotlineAgent"
    done: set[Action] = set()

    async def one_answer(action: Action, whose: str, one: str) -> None:
        what, body = ROUTES[action]
        card = await services.cards.one(one)
        region, now = services.regions.get(card.region_code), services.clock.now()
        objection = judge(action, card, operator.actor(), region, now)
        reply = await do(client, what, one, body)
        after, where = await services.cards.one(one), (key, action, whose)
        if objection is not None:
            assert (reply.code, after) == (objection.code, card), where
            return
        if phone:
            # Only ticket and code are wanting.
            assert [error["field"] for error in reply.json["errors"]] == ["ticket"], where
            return
        done.add(action)
        asked, target = needs_second_person(action, card), TRANSITIONS[action].target
        assert reply.status == (202 if asked else 200), where
        assert after.status(now) == (card.status(now) if asked or target is None else target), where
        assert after.version == card.version + (0 if asked else 1), where

    for action in ROUTES:
        await api.post("/sandbox/reset", {})
        await asyncio.gather(*(one_answer(action, whose, one) for whose, one in cards))
    if key in {"bureau", "bureau-supervisor"}:
        # Nothing that a bureau does went untried.
        assert done == {*ROUTES} - {Action.ACTIVATE_BANK}


async def test_what_is_offered_to_an_operator_is_what_is_accepted(api: Api, served: Served) -> None:
    bureau = await api.sign_in_staff("bureau")
    card = await card_id(api, "active")
    view = (await do(bureau, "pin/reset", card, {"materials": WITH_CARD})).json
    operator, services = _operators(served)["bureau"], served.process.services
    now_is = await services.cards.one(card)
    for offer in view["actions"]:
        action = Action(offer["action"])
        if action is Action.ACTIVATE:
            continue
        objection = judge(action, now_is, operator.actor(), services.regions.get("990100"), services.clock.now())
        assert offer["allowed"] is (objection is None), action
        assert offer["reason"] == (objection.reason if objection else None), action


async def test_another_regions_bureau_and_another_bank_touch_nothing(api: Api) -> None:
    card = await card_id(api, "active")
    elsewhere, other = await api.sign_in_staff("bureau2"), await api.sign_in_staff("bank-other")
    for client, what, body in (
        (elsewhere, "lock", {"reason": "fraud"}),
        (elsewhere, "cancel", {"reason": "death"}),
        (elsewhere, "loss", {"kind": "formal", "materials": WITHOUT_CARD}),
        (other, "pin/reset", {"materials": WITH_CARD}),
        (other, "bank-activation", {"materials": WITH_CARD}),
        (other, "loss", {"kind": "formal", "materials": WITHOUT_CARD}),
    ):
        reply = await do(client, what, card, body)
        assert (reply.status, reply.code) == (403, "channel_not_allowed"), what
    assert len(await history(api, "active")) == 1
    assert await (await as_holder(api, "active")).accesses() == []


async def test_a_card_that_is_not_there_is_not_found_and_a_resident_is_no_operator(api: Api) -> None:
    bureau, resident = await api.sign_in_staff("bureau"), await api.sign_in("active")
    for nobody in ("card_" + "a" * 24, "nonsense"):
        assert (await do(bureau, "lock", nobody, {"reason": "fraud"})).code == "not_found"
    own = await card_id(api, "active")
    for what, body in ROUTES.values():
        assert (await do(resident, what, own, body)).code == "forbidden"
    assert (await resident.post("/v1/staff/pin-checks", {"cardId": own, "pin": "123456"})).code == "forbidden"


async def test_a_card_in_the_wrong_state_names_it_and_what_this_operator_could_do(api: Api) -> None:
    bureau, bank = await api.sign_in_staff("bureau"), await api.sign_in_staff("bank-own")
    card = await card_id(api, "cancelled")
    reply = await do(bureau, "lock", card, {"reason": "fraud"})
    assert (reply.status, reply.code) == (409, "transition_not_allowed")
    assert (reply.json["from"], reply.json["allowed"], reply.json["reason"]) == ("cancelled", [], "cancelled")
    lost = await card_id(api, "formally-lost")
    reply = await do(bank, "loss", lost, {"kind": "formal", "materials": WITHOUT_CARD})
    assert (reply.json["from"], reply.json["reason"]) == ("formallyLost", "formallyLost")
    assert "unlock" not in reply.json["allowed"]


# Checking a PIN.


async def test_a_right_pin_opens_the_card_and_says_what_it_opens(api: Api) -> None:
    hospital, person = await api.sign_in_staff("hospital"), await api.persona("active")
    card = await card_id(api, "active")
    reply = await hospital.post("/v1/staff/pin-checks", {"cardId": card, "pin": person["servicePin"]})
    assert (reply.status, reply.json["valid"], reply.json["medicalAccount"]) == (200, True, "normal")
    assert reply.json["servicePin"] == {"state": "set", "triesLeft": 5}
    log = await (await as_holder(api, "active")).accesses()
    assert [(entry["action"], entry["by"], entry["channel"]) for entry in log] == [("checkPin", "hospitalClerk", "hospital")]


async def test_wrong_pins_are_counted_then_locked_and_the_holder_is_told_once(api: Api) -> None:
    hospital, person = await api.sign_in_staff("hospital"), await api.persona("active")
    card = await card_id(api, "active")
    wrong = f"{(int(person['servicePin']) + 1) % 1_000_000:06}"
    replies = await asyncio.gather(*(hospital.post("/v1/staff/pin-checks", {"cardId": card, "pin": wrong}) for _ in range(20)))
    codes = [reply.code for reply in replies]
    assert codes.count("pin_incorrect") == 5
    assert set(codes) == {"pin_incorrect", "pin_locked"}
    assert sorted(reply.json["triesLeft"] for reply in replies if reply.code == "pin_incorrect") == [0, 1, 2, 3, 4]
    right = await hospital.post("/v1/staff/pin-checks", {"cardId": card, "pin": person["servicePin"]})
    assert (right.status, right.code) == (403, "pin_locked")
    assert (await templates(api, "active")).count("pin_locked") == 1
    bureau = await api.sign_in_staff("bureau")
    assert (await do(bureau, "pin/reset", card, {"materials": WITH_CARD})).json["servicePin"]["triesLeft"] == 5


@pytest.mark.parametrize(
    ("persona", "state"),
    [("temporarily-lost", "temporarilyLost"), ("formally-lost", "formallyLost"), ("locked", "locked"), ("sealed", "sealed")],
)
async def test_a_card_that_cannot_be_used_is_refused_with_its_state_whatever_the_pin(
    api: Api, persona: str, state: str
) -> None:
    hospital, person = await api.sign_in_staff("hospital"), await api.persona(persona)
    for pin in (person["servicePin"], "000000"):
        reply = await hospital.post("/v1/staff/pin-checks", {"cardId": await card_id(api, persona), "pin": pin})
        assert (reply.status, reply.code, reply.json["from"]) == (409, "transition_not_allowed", state)


async def test_only_hospitals_check_pins(api: Api) -> None:
    card = await card_id(api, "active")
    for key in ("bureau", "bank-own", "hotline", "employer", "production"):
        client = await api.sign_in_staff(key)
        reply = await client.post("/v1/staff/pin-checks", {"cardId": card, "pin": "123456"})
        assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["hospital"])


@pytest.mark.parametrize("pin", ["12345", "1234567", "12345x", "", 123456, None])
async def test_a_pin_that_can_be_none_is_no_try(api: Api, pin: object) -> None:
    hospital, card = await api.sign_in_staff("hospital"), await card_id(api, "active")
    reply = await hospital.post("/v1/staff/pin-checks", {"cardId": card, "pin": pin})
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert str(pin) not in reply.raw.decode() or pin in {"", None}


# At once, and again.


async def test_twenty_who_lock_at_once_lock_once(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    replies = await asyncio.gather(*(do(bureau, "lock", card, {"reason": "fraud"}) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19
    assert {reply.json["from"] for reply in replies if reply.status == 409} == {"locked"}
    assert [event for event, *_ in await history(api, "active")].count("locked") == 1
    assert (await templates(api, "active")).count("card_locked") == 1


async def test_the_same_key_again_is_the_same_answer_and_one_happening(api: Api) -> None:
    bureau, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    body = {"kind": "temporary", "materials": WITHOUT_CARD}
    first, second = [await do(bureau, "loss", card, body, "again") for _ in range(2)]
    assert (first.status, first.raw) == (second.status, second.raw) == (200, first.raw)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (await do(bureau, "loss", card, body | {"kind": "formal"}, "again")).code == "idempotency_key_reused"
    assert [event for event, *_ in await history(api, "active")].count("temporaryLossReported") == 1
    log = await (await as_holder(api, "active")).accesses()
    assert [entry["action"] for entry in log] == ["reportTemporaryLoss"]
    assert (await api.as_(bureau.token).post(f"/v1/staff/cards/{card}/lock", {"reason": "fraud"})).code == (
        "idempotency_key_missing"
    )
