"""Giving and withdrawing consents, and what is refused without one."""

import asyncio
import statistics
import time
from collections import Counter
from datetime import datetime
from typing import Any, get_args

import pytest
from api.client import Api, Reply
from api.counters import LOOK_UPS, look_up, made_up_id_number, plain, written

from service.consents import MOST_TURNS_A_DAY, Purpose, consent_id_of
from service.ids import HolderId, derived_id
from service.lookups import LookUpReason
from service.mongo.client import Database

CONSENTS = "/v1/me/consents"
TICKET = "T20261122-0042"
COUNTERS = ("bank-own", "hospital", "bureau", "bureau-supervisor")


def named(purpose: Purpose, key: str) -> str:
    """The id of a persona's consent."""
    return consent_id_of(HolderId(derived_id("hld", key)), purpose)


async def give(client: Api, purpose: str = "counterLookUp", key: str = "new") -> Reply:
    return await client.post(CONSENTS, {"purpose": purpose}, key=key)


async def withdraw(client: Api, consent_id: str, key: str = "new") -> Reply:
    return await client.post(f"{CONSENTS}/{consent_id}/withdraw", {}, key=key)


async def listed(client: Api) -> dict[str, dict[str, Any]]:
    page = (await client.get(CONSENTS)).json
    assert (page["nextCursor"], page["hasMore"]) == (None, False)
    return {item["purpose"]: item for item in page["items"]}


async def logged(api: Api, *actions: str) -> list[tuple[str, str, str, str | None]]:
    """What the log of who has not agreed says of some actions, newest first."""
    return [entry[:4] for entry in await written(api, "no-consent") if entry[0] in actions]


async def turns_of(database: Database, consent_id: str) -> list[str]:
    """What lies in the database of a consent, oldest first."""
    found = await database.collection("consents").find_one({"_id": consent_id})
    return [turn["turn"] for turn in found["turns"]] if found else []


async def test_every_purpose_is_listed_with_the_words_to_agree_to(api: Api) -> None:
    client = await api.sign_in("no-consent")
    items = await listed(client)
    assert list(items) == [str(purpose) for purpose in Purpose]
    for item in items.values():
        assert (item["state"], item["consentId"], item["givenAt"], item["withdrawnAt"]) == ("notGiven", None, None, None)
    english = (await client.get(CONSENTS, Accept_Language="en")).json["items"]
    for item in english:
        assert item["version"] == 1
        assert item["text"].isascii()
        assert not items[item["purpose"]]["text"].isascii()


async def test_a_consent_is_given_withdrawn_and_given_again_and_all_of_it_is_kept(api: Api, database: Database) -> None:
    client = await api.sign_in("no-consent")
    given = await give(client)
    assert given.status == 200
    assert (given.json["state"], given.json["version"], given.json["withdrawnAt"]) == ("given", 1, None)
    assert given.json["consentId"] == named(Purpose.COUNTER_LOOK_UP, "no-consent")
    assert (await listed(client))["counterLookUp"] == given.json
    over = await withdraw(client, given.json["consentId"])
    assert (over.status, over.json["state"], over.json["givenAt"]) == (200, "withdrawn", given.json["givenAt"])
    assert over.json["withdrawnAt"] is not None
    again = await give(client)
    assert (again.json["state"], again.json["consentId"], again.json["withdrawnAt"]) == (
        "given",
        given.json["consentId"],
        None,
    )
    assert await turns_of(database, given.json["consentId"]) == ["given", "withdrawn", "given"]
    assert await logged(api, "giveConsent", "withdrawConsent") == [
        ("giveConsent", "self", "app", "counterLookUp"),
        ("withdrawConsent", "self", "app", "counterLookUp"),
        ("giveConsent", "self", "app", "counterLookUp"),
    ]


async def test_who_agrees_or_takes_it_back_is_told_which_consent_it_was(api: Api) -> None:
    client = await api.sign_in("no-consent")
    consent_id = (await give(client)).json["consentId"]
    assert (await withdraw(client, consent_id)).status == 200
    assert (await withdraw(client, consent_id)).status == 200
    title = (await listed(client))["counterLookUp"]["title"]
    messages = await api.messages((await api.persona("no-consent"))["mobile"])
    told = [message for message in messages if message["template"].startswith("consent_")]
    assert sorted(message["template"] for message in told) == ["consent_given", "consent_withdrawn"]
    assert all(title in message["text"] for message in told)


async def test_saying_the_same_again_changes_nothing(api: Api, database: Database) -> None:
    client = await api.sign_in("no-consent")
    first = await give(client)
    assert (await give(client)).json == first.json
    over = await withdraw(client, first.json["consentId"])
    assert (await withdraw(client, first.json["consentId"])).json == over.json
    assert await turns_of(database, first.json["consentId"]) == ["given", "withdrawn"]


async def test_many_at_once_make_one_consent_and_one_entry(api: Api, database: Database) -> None:
    client = await api.sign_in("no-consent")
    replies = await asyncio.gather(*(give(client) for _ in range(40)))
    assert Counter(reply.status for reply in replies) == {200: 40}
    assert len({reply.raw for reply in replies}) == 1
    consent_id = replies[0].json["consentId"]
    assert await turns_of(database, consent_id) == ["given"]
    over = await asyncio.gather(*(withdraw(client, consent_id) for _ in range(40)))
    assert Counter(reply.status for reply in over) == {200: 40}
    assert await turns_of(database, consent_id) == ["given", "withdrawn"]
    assert len(await logged(api, "giveConsent", "withdrawConsent")) == 2


async def test_a_retry_gets_its_first_answer_also_after_a_change_of_mind(api: Api, database: Database) -> None:
    client = await api.sign_in("no-consent")
    first = await give(client, key="one")
    over = await withdraw(client, first.json["consentId"])
    # The first answer was lost, and so was the service's memory of it: the request is found in the consent itself.
    past = datetime.fromisoformat(first.json["givenAt"])
    await database.collection("idempotency").update_all({}, {"$set": {"answer": None, "leaseUntil": past}})
    retried = await give(client, key="one")
    assert (retried.status, retried.json["state"]) == (200, "withdrawn")
    assert retried.json["withdrawnAt"] == over.json["withdrawnAt"]
    assert await turns_of(database, first.json["consentId"]) == ["given", "withdrawn"]


def over_by(reply: Reply) -> Any:
    """A moment that is past."""
    return datetime.fromisoformat(reply.json["givenAt"])


async def test_who_changes_their_mind_all_day_is_asked_to_wait(api: Api) -> None:
    client = await api.sign_in("no-consent")
    consent_id = (await give(client)).json["consentId"]
    for number in range(1, MOST_TURNS_A_DAY):
        reply = await (withdraw(client, consent_id) if number % 2 else give(client))
        assert reply.status == 200
    reply = await give(client)
    assert (reply.status, reply.code) == (429, "rate_limited")
    assert int(reply.headers["Retry-After"]) > 86_000


async def test_agreeing_needs_somebody_who_is_known_surely_and_withdrawing_only_a_session(api: Api) -> None:
    password = await api.sign_in("sealed", "password")
    refused = await give(password)
    assert (refused.status, refused.code) == (403, "assurance_too_low")
    over = await withdraw(password, named(Purpose.COUNTER_LOOK_UP, "sealed"))
    assert (over.status, over.json["state"]) == (200, "withdrawn")


async def test_a_child_does_not_agree_for_itself(api: Api) -> None:
    refused = await give(await api.sign_in("minor"), "dependantEcard")
    assert (refused.status, refused.code) == (403, "guardian_required")


async def test_somebody_elses_consent_is_not_there(api: Api, database: Database) -> None:
    stranger = await api.sign_in("sealed2")
    theirs = named(Purpose.COUNTER_LOOK_UP, "sealed")
    for consent_id in (theirs, named(Purpose.DEPENDANT_ECARD, "sealed2"), "cns_nonsense", "%E5%BC%A0"):
        assert (await withdraw(stranger, consent_id)).code == "not_found"
    assert await turns_of(database, theirs) == ["given"]


async def test_an_unknown_purpose_is_refused(api: Api) -> None:
    client = await api.sign_in("sealed")
    assert (await give(client, "marketing")).json["errors"] == [
        {"field": "purpose", "code": "not_allowed", "message": (await give(client, "x")).json["errors"][0]["message"]}
    ]


@pytest.mark.parametrize("counter", COUNTERS)
async def test_without_consent_an_enquiry_at_a_counter_finds_nobody(api: Api, counter: str) -> None:
    operator = await api.sign_in_staff(counter)
    without = await look_up(operator, "no-consent")
    nobody = await operator.post(LOOK_UPS, {"idNumber": made_up_id_number(7), "reason": "enquiry"})
    assert (without.status, without.code) == (404, "not_found")
    assert plain(without) == plain(nobody)
    assert {*without.headers} == {*nobody.headers}
    assert await logged(api, "lookUp") == [("lookUp", *place_of(counter), "enquiry")]


@pytest.mark.alone
async def test_it_takes_as_long_to_find_nobody_as_who_has_not_agreed(api: Api) -> None:
    operator = await api.sign_in_staff("bureau")
    person = await api.persona("no-consent")
    asked = {"no consent": person["idNumber"], "nobody": made_up_id_number(7)}
    took: dict[str, list[float]] = {who: [] for who in asked}
    for _ in range(60):
        for who, number in asked.items():
            began = time.perf_counter()
            reply = await operator.post(LOOK_UPS, {"idNumber": number, "reason": "enquiry"}, checked=False)
            took[who].append(time.perf_counter() - began)
            assert reply.status == 404
    medians = {who: statistics.median(times) for who, times in took.items()}
    assert abs(medians["no consent"] - medians["nobody"]) < max(0.004, 0.3 * max(medians.values())), medians


def place_of(counter: str) -> tuple[str, str]:
    """By whom and where a look is said to have been."""
    places = {
        "bank-own": ("bankTeller", "bank"),
        "hospital": ("hospitalClerk", "hospital"),
        "bureau": ("bureauClerk", "bureau"),
    }
    return places.get(counter, ("bureauSupervisor", "bureau"))


async def test_what_is_said_counts_at_the_next_look(api: Api) -> None:
    operator = await api.sign_in_staff("bureau")
    client = await api.sign_in("no-consent")
    assert (await look_up(operator, "no-consent")).status == 404
    consent_id = (await give(client)).json["consentId"]
    assert (await look_up(operator, "no-consent")).status == 200
    assert (await withdraw(client, consent_id)).status == 200
    assert (await look_up(operator, "no-consent")).status == 404


async def test_a_matter_of_their_own_needs_no_consent(api: Api) -> None:
    operator = await api.sign_in_staff("bureau")
    reasons = [reason for reason in get_args(LookUpReason) if reason != "enquiry"]
    assert len(reasons) >= 10
    for reason in reasons:
        assert (await look_up(operator, "no-consent", reason=reason)).status == 200, reason


async def test_a_caller_who_asks_on_the_phone_needs_none_either(api: Api) -> None:
    agent = await api.sign_in_staff("hotline")
    assert (await look_up(agent, "no-consent", ticket=TICKET)).status == 200
    # At a window a ticket is a queue number and no call of anybody's.
    assert (await look_up(await api.sign_in_staff("bureau"), "no-consent", ticket=TICKET)).status == 404


async def test_a_reset_brings_the_consents_back(api: Api) -> None:
    client = await api.sign_in("sealed")
    assert (await withdraw(client, named(Purpose.COUNTER_LOOK_UP, "sealed"))).status == 200
    assert (await give(await api.sign_in("no-consent"))).status == 200
    await api.post("/sandbox/reset", {})
    assert (await listed(client))["counterLookUp"]["state"] == "given"
    assert (await listed(await api.sign_in("no-consent", "face")))["counterLookUp"]["state"] == "notGiven"
