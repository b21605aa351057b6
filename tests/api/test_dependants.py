import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from api.client import Api, Reply

from service.clock import CHINA
from service.dependants import dependant_id_of
from service.ids import HolderId, derived_id

OTHER_NAME = "李假远"


async def household(api: Api, key: str, relationship: str = "child") -> dict[str, str]:
    """What a guardian types about somebody."""
    person = await api.persona(key)
    return {
        "name": person["name"],
        "idNumber": person["idNumber"],
        "relationship": relationship,
        "householdRegister": person["householdRegister"],
    }


async def link(client: Api, body: Mapping[str, str], key: str = "new") -> Reply:
    return await client.post("/v1/dependants", body, key=key)


async def linked(client: Api, key: str = "unlinked-minor") -> dict[str, Any]:
    reply = await link(client, await household(client, key))
    assert reply.status == 201, reply.raw
    made: dict[str, Any] = reply.json
    return made


async def end(client: Api, dependant_id: str, key: str = "new") -> Reply:
    return await client.post(f"/v1/dependants/{dependant_id}/end", {}, key=key)


async def listed(client: Api) -> dict[str, dict[str, Any]]:
    page = (await client.get("/v1/dependants")).json
    assert (page["nextCursor"], page["hasMore"]) == (None, False)
    return {item["dependantId"]: item for item in page["items"]}


async def log_of(client: Api) -> list[tuple[str, str, str, str | None]]:
    """What the log of somebody's accesses says, newest first."""
    entries = await client.accesses()
    return [(entry["action"], entry["by"], entry["channel"], entry["reason"]) for entry in entries]


def born(person: Mapping[str, Any]) -> date:
    return date.fromisoformat(person["idNumber"][6:14])


async def now(api: Api) -> datetime:
    reply = await api.post("/sandbox/clock", {"advanceSeconds": 0})
    return datetime.fromisoformat(reply.json["now"])


async def test_a_guardian_links_a_minor_of_the_household_and_activates_the_card(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    person = await api.persona("unlinked-minor")
    made = await linked(guardian)
    assert made == {
        "dependantId": made["dependantId"],
        "nameMasked": person["name"][0] + "*" * (len(person["name"]) - 1),
        "relationship": "child",
        "until": born(person).replace(year=born(person).year + 16).isoformat(),
    }
    assert (await listed(guardian))[made["dependantId"]] == made
    assert len(await listed(guardian)) == 2
    done = await guardian.activate(await api.details("unlinked-minor") | {"onBehalfOf": made["dependantId"]})
    assert (done.status, done.json["result"]) == (200, "activated")


async def test_the_link_that_the_sandbox_tells_is_the_one_that_linking_gives(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    (told,) = (await api.persona("guardian"))["dependants"]
    again = await linked(guardian, "minor")
    assert again["dependantId"] == told["dependantId"]
    assert list(await listed(guardian)) == [told["dependantId"]]


async def test_after_the_end_of_a_link_nothing_is_done_under_it(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian)
    over = await end(guardian, made["dependantId"])
    assert (over.status, over.json) == (200, {})
    assert made["dependantId"] not in await listed(guardian)
    body = await api.details("unlinked-minor") | {"onBehalfOf": made["dependantId"]}
    assert (await guardian.activate(body)).code == "not_found"
    assert (await end(guardian, made["dependantId"])).json == {}


async def test_a_link_that_was_ended_can_be_made_anew(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    first = await linked(guardian)
    assert (await end(guardian, first["dependantId"])).status == 200
    again = await link(guardian, await household(api, "unlinked-minor", "ward"))
    assert (again.status, again.json) == (201, first | {"relationship": "ward"})
    body = await api.details("unlinked-minor") | {"onBehalfOf": first["dependantId"]}
    assert (await guardian.activate(body)).json["result"] == "activated"


async def test_linking_again_says_the_same_and_changes_nothing(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    first = await linked(guardian)
    assert (await link(guardian, await household(api, "unlinked-minor", "ward"))).json == first
    assert [action for action, *_ in await log_of(guardian)] == ["linkGuardian"]


async def test_a_link_ends_by_itself_on_the_birthday_at_midnight_in_china(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian)
    last = datetime.fromisoformat(made["until"]).replace(tzinfo=CHINA) - timedelta(seconds=30)
    await api.advance(int((last - await now(api)).total_seconds()))
    guardian = await api.sign_in("guardian")
    assert made["dependantId"] in await listed(guardian)
    details = await api.details("unlinked-minor")
    wrong = details | {"cardNumber": (await api.details("sealed"))["cardNumber"], "onBehalfOf": made["dependantId"]}
    assert (await guardian.activate(wrong)).code == "card_details_mismatch"
    await api.advance(31)
    assert made["dependantId"] not in await listed(guardian)
    assert (await guardian.activate(details | {"onBehalfOf": made["dependantId"]})).code == "not_found"
    anew = await link(guardian, await household(api, "unlinked-minor"))
    assert (anew.status, anew.code, anew.json["reason"]) == (409, "dependant_not_linkable", "grownUp")
    assert (await end(guardian, made["dependantId"])).json == {}


@pytest.mark.parametrize("same_key", [True, False])
async def test_fifty_links_at_once_make_one(api: Api, *, same_key: bool) -> None:
    guardian = await api.sign_in("guardian")
    body = await household(api, "unlinked-minor")
    keys = ["one"] * 50 if same_key else [f"key-{number}" for number in range(50)]
    replies = await asyncio.gather(*(link(guardian, body, key) for key in keys))
    assert {reply.status for reply in replies} <= ({201, 409} if same_key else {201})
    assert {reply.code for reply in replies if reply.status == 409} <= {"idempotency_in_flight"}
    assert len({reply.raw for reply in replies if reply.status == 201}) == 1
    assert len(await listed(guardian)) == 2
    minor = await api.sign_in("unlinked-minor", "face")
    dependant_id = replies[0].json["dependantId"] if replies[0].status == 201 else next(iter(await listed(guardian)))
    assert len(await log_of(guardian)) == 1
    assert [entry[:3] for entry in await log_of(minor)] == [("linkGuardian", "guardian", "app")]
    assert dependant_id in await listed(guardian)


async def test_a_refusal_names_to_a_guardian_what_guardians_may_do_and_no_more(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    minor = (await api.persona("guardian"))["dependants"][0]["dependantId"]
    (card,) = (await api.persona("minor"))["cards"]
    body = {"onBehalfOf": minor, "kind": "temporary"}
    refused = await loss(guardian, card["cardId"], body)
    assert (refused.status, refused.json["from"], refused.json["allowed"]) == (409, "sealed", ["activate"])
    assert (await guardian.activate(await api.details("minor") | {"onBehalfOf": minor})).status == 200
    refused = await loss(guardian, card["cardId"], {"onBehalfOf": minor}, "loss/cancel")
    assert refused.json["allowed"] == ["reportTemporaryLoss", "reportFormalLoss"]


async def test_fifty_ends_at_once_are_one_end(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian)
    replies = await asyncio.gather(*(end(guardian, made["dependantId"], f"end-{number}") for number in range(50)))
    assert {(reply.status, reply.raw) for reply in replies} == {(200, b"{}")}
    assert Counter(action for action, *_ in await log_of(guardian)) == {"linkGuardian": 1, "endGuardianship": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": OTHER_NAME},
        {"householdRegister": "990000001"},
        {"idNumber": "sealed"},
        {"idNumber": "sealed", "name": "sealed"},
        {"idNumber": "sealed", "name": "sealed", "householdRegister": "sealed"},
        {"idNumber": "196533201811121377"},
    ],
    ids=["name", "register", "somebody else", "their name too", "of another household", "nobody"],
)
async def test_what_does_not_match_is_never_told(api: Api, wrong: dict[str, str]) -> None:
    guardian = await api.sign_in("guardian")
    other = await household(api, "sealed")
    body = await household(api, "unlinked-minor") | {
        name: other[name] if value == "sealed" else value for name, value in wrong.items()
    }
    reply = await link(guardian, body)
    assert (reply.status, reply.code) == (422, "household_mismatch")
    assert reply.json.keys() == {"type", "title", "status", "detail", "code", "requestId"}
    assert len(await listed(guardian)) == 1


async def test_somebody_of_another_household_links_nobody_even_with_the_right_details(api: Api) -> None:
    stranger = await api.sign_in("sealed")
    reply = await link(stranger, await household(api, "unlinked-minor"))
    assert (reply.status, reply.code) == (422, "household_mismatch")


async def test_five_mismatches_a_day_and_no_more_not_even_a_right_one(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    right = await household(api, "unlinked-minor")
    codes = [(await link(guardian, right | {"name": OTHER_NAME})).code for _ in range(6)]
    assert codes == ["household_mismatch"] * 5 + ["too_many_attempts"]
    locked = await link(guardian, right)
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    assert int(locked.headers["Retry-After"]) > 80_000
    # Cards are another matter, and so are other guardians.
    minor = (await api.persona("guardian"))["dependants"][0]["dependantId"]
    assert (await guardian.activate(await api.details("minor") | {"onBehalfOf": minor})).status == 200
    await api.advance(86_400)
    assert (await link(await api.sign_in("guardian"), right)).status == 201


async def test_fifty_wrong_guesses_at_once_are_five(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    right = await household(api, "unlinked-minor")
    guesses = [right | {"householdRegister": f"98{number:07d}"} for number in range(50)]
    replies = await asyncio.gather(*(link(guardian, guess) for guess in guesses))
    codes = Counter(reply.code for reply in replies)
    assert 1 <= codes["household_mismatch"] <= 5
    assert codes["household_mismatch"] + codes["too_many_attempts"] == 50
    for guess in guesses[:5]:
        await link(guardian, guess)
    assert (await link(guardian, right)).code == "too_many_attempts"


async def test_right_links_are_no_guesses(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    for _ in range(8):
        made = await linked(guardian)
        assert (await end(guardian, made["dependantId"])).status == 200


async def test_a_grown_up_of_the_household_is_told_apart_and_nobody_links_themselves(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    reply = await link(guardian, await household(api, "guardian"))
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "dependant_not_linkable", "grownUp")


async def test_a_minor_links_nobody(api: Api) -> None:
    minor = await api.sign_in("minor", "face")
    reply = await link(minor, await household(api, "unlinked-minor"))
    assert (reply.status, reply.code) == (403, "guardian_required")


async def test_somebody_elses_link_is_not_found(api: Api) -> None:
    guardian, stranger, minor = await api.sign_in("guardian"), await api.sign_in("sealed"), await api.sign_in("minor", "face")
    (told,) = (await api.persona("guardian"))["dependants"]
    for client in (stranger, minor):
        reply = await end(client, told["dependantId"])
        assert (reply.status, reply.code) == (404, "not_found")
        assert await listed(client) == {}
    body = await api.details("minor") | {"onBehalfOf": told["dependantId"]}
    assert (await stranger.activate(body)).code == "not_found"
    assert told["dependantId"] in await listed(guardian)
    for nonsense in ("dep_aaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"):
        assert (await end(guardian, nonsense)).code == "not_found"


async def test_a_password_session_looks_but_links_and_ends_nothing(api: Api) -> None:
    weak = await api.sign_in("guardian", "password")
    (told,) = (await api.persona("guardian"))["dependants"]
    assert told["dependantId"] in await listed(weak)
    for reply in (await link(weak, await household(api, "unlinked-minor")), await end(weak, told["dependantId"])):
        assert (reply.status, reply.code, reply.json["requiredAssurance"]) == (403, "assurance_too_low", 2)


async def test_a_retry_with_the_same_key_is_the_same_request(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    body = await household(api, "unlinked-minor")
    first = await link(guardian, body, "k-link")
    ended = await end(guardian, first.json["dependantId"], "k-end")
    again = await link(guardian, body, "k-link")
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (201, first.raw, "true")
    assert first.json["dependantId"] not in await listed(guardian)
    assert (await link(guardian, body)).status == 201
    late = await end(guardian, first.json["dependantId"], "k-end")
    assert (late.status, late.raw, late.headers["Idempotency-Replayed"]) == (200, ended.raw, "true")
    assert first.json["dependantId"] in await listed(guardian)
    missing = await guardian.post("/v1/dependants", body)
    assert (missing.status, missing.code) == (400, "idempotency_key_missing")
    assert (await link(guardian, body | {"name": OTHER_NAME}, "k-link")).code == "idempotency_key_reused"


async def test_both_logs_say_who_linked_whom_and_who_ended_it(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian)
    assert (await end(guardian, made["dependantId"])).status == 200
    assert (await linked(guardian))["dependantId"] == made["dependantId"]
    minor = await api.sign_in("unlinked-minor", "face")
    told = ["linkGuardian", "endGuardianship", "linkGuardian"]
    assert await log_of(guardian) == [(action, "self", "app", made["dependantId"]) for action in told]
    assert await log_of(minor) == [(action, "guardian", "app", made["dependantId"]) for action in told]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("relationship", "friend", "not_allowed"),
        ("householdRegister", "12", "household_register_format"),
        ("householdRegister", "户口簿一二三四", "household_register_format"),
        ("idNumber", "196533201811121371", "resident_id_check_character"),
        ("name", "", "too_short"),
    ],
)
async def test_what_is_no_such_thing_is_named_and_no_guess(api: Api, field: str, value: str, code: str) -> None:
    guardian = await api.sign_in("guardian")
    right = await household(api, "unlinked-minor")
    for _ in range(6):
        reply = await link(guardian, right | {field: value})
        assert (reply.status, reply.code) == (422, "invalid_request")
        assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [(field, code)]
    assert (await link(guardian, right)).status == 201


async def test_numbers_are_taken_as_people_paste_them(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    body = await household(api, "unlinked-minor")
    register = body["householdRegister"]
    typed = {
        "name": f" {body['name']}\u200b",
        "idNumber": f"{body['idNumber'][:6]} {body['idNumber'][6:14]}-{body['idNumber'][14:].lower()}",
        "householdRegister": "".join(chr(ord(sign) + 0xFEE0) for sign in f"{register[:4]} {register[4:]}".replace(" ", "")),
    }
    assert (await link(guardian, body | typed)).status == 201


@pytest.mark.parametrize(("language", "relationship"), [("zh-CN", "child"), ("en", "ward")])
async def test_the_pages_lead_to_a_form_that_links(api: Api, language: str, relationship: str) -> None:
    guardian = await api.sign_in("guardian")
    page: dict[str, Any] = {}
    for page_id in ("social-security-card", "dependants", f"link-{relationship}"):
        if page:
            assert page_id in {entry["opens"]["page"] for section in page["sections"] for entry in section["entries"]}
        page = (await guardian.get(f"/v1/pages/{page_id}", Accept_Language=language)).json
    typed = await household(api, "unlinked-minor", relationship)
    body = {field["name"]: field["value"] or typed[field["name"]] for field in page["form"]["fields"]}
    assert body == typed
    done = await guardian.post(page["form"]["submit"]["url"], body, key="new")
    assert (done.status, done.json["relationship"]) == (201, relationship)


async def test_an_id_says_nothing_but_which_two_people_it_links(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian)
    people = [HolderId(derived_id("hld", key)) for key in ("guardian", "unlinked-minor")]
    assert made["dependantId"] == dependant_id_of(people[0], people[1]) != dependant_id_of(people[1], people[0])


async def cards_of(client: Api, dependant_id: str) -> Reply:
    return await client.get(f"/v1/cards?onBehalfOf={dependant_id}")


async def loss(client: Api, card_id: str, body: Mapping[str, Any], path: str = "loss") -> Reply:
    return await client.post(f"/v1/cards/{card_id}/{path}", body, key="new")


async def with_an_active_card(api: Api) -> tuple[Api, str, str]:
    """The guardian, the link to a minor whose card is active, and that card."""
    guardian = await api.sign_in("guardian")
    dependant_id = (await api.persona("guardian"))["dependants"][0]["dependantId"]
    done = await guardian.activate(await api.details("minor") | {"onBehalfOf": dependant_id})
    assert done.status == 200
    return guardian, dependant_id, done.json["cardId"]


async def test_a_guardian_sees_a_dependants_cards_with_what_a_guardian_may_do(api: Api) -> None:
    guardian = await api.sign_in("guardian", "password")
    (told,) = (await api.persona("guardian"))["dependants"]
    (card,) = (await cards_of(guardian, told["dependantId"])).json["items"]
    assert card["cardId"] == (await api.persona("minor"))["cards"][0]["cardId"]
    assert card["status"] == "sealed"
    offered = {action["action"]: action["reason"] for action in card["actions"]}
    assert offered["activate"] is None
    assert {action for action, reason in offered.items() if reason == "notForGuardians"} == {"replace", "changePin"}
    own = (await guardian.get("/v1/cards")).json["items"]
    assert [item["cardId"] for item in own] == [(await api.persona("guardian"))["cards"][0]["cardId"]]
    minor = await api.sign_in("minor", "face")
    (seen,) = (await minor.get("/v1/cards")).json["items"]
    assert next(action for action in seen["actions"] if action["action"] == "activate")["allowed"] is False


async def test_a_look_is_in_the_dependants_log_once_a_minute(api: Api) -> None:
    guardian, minor = await api.sign_in("guardian"), await api.sign_in("minor", "face")
    (told,) = (await api.persona("guardian"))["dependants"]
    replies = await asyncio.gather(*(cards_of(guardian, told["dependantId"]) for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    entries = await log_of(minor)
    assert 1 <= len(entries) <= 2
    assert set(entries) == {("seeCards", "guardian", "app", told["dependantId"])}
    await api.advance(120)
    assert (await cards_of(guardian, told["dependantId"])).status == 200
    assert len(await log_of(minor)) == len(entries) + 1
    assert await log_of(guardian) == []


async def test_a_guardian_reports_a_dependants_card_lost_and_found(api: Api) -> None:
    guardian, dependant_id, card_id = await with_an_active_card(api)
    asked = {"onBehalfOf": dependant_id}
    lost = await loss(guardian, card_id, asked | {"kind": "temporary"})
    assert (lost.status, lost.json["status"]) == (200, "temporarilyLost")
    found = await loss(guardian, card_id, asked, "loss/cancel")
    assert (found.status, found.json["status"]) == (200, "active")
    gone = await loss(guardian, card_id, asked | {"kind": "formal"})
    assert (gone.status, gone.json["status"]) == (200, "formallyLost")
    minor = await api.sign_in("minor", "face")
    history = (await minor.get(f"/v1/cards/{card_id}/history")).json["items"]
    assert [entry["event"] for entry in history] == [
        *("formalLossReported", "lossCancelled", "temporaryLossReported", "activated"),
    ]
    acts = ["reportFormalLoss", "cancelLoss", "reportTemporaryLoss", "activate"]
    assert await log_of(minor) == [(act, "guardian", "app", dependant_id) for act in acts]
    assert await log_of(guardian) == [(act, "self", "app", dependant_id) for act in acts]


async def test_the_guardian_hears_of_what_happened_to_a_dependants_card(api: Api) -> None:
    guardian, dependant_id, card_id = await with_an_active_card(api)
    assert (await loss(guardian, card_id, {"onBehalfOf": dependant_id, "kind": "temporary"})).status == 200
    mobiles = [(await api.persona(key))["mobile"] for key in ("guardian", "minor")]
    heard, child = [[message["template"] for message in await api.messages(mobile)] for mobile in mobiles]
    assert "card_activated" in heard
    assert len([template for template in heard if template not in {"verification_code", "new_device"}]) == 2
    assert child == []


async def test_a_dependants_card_is_nobody_elses(api: Api) -> None:
    guardian, dependant_id, card_id = await with_an_active_card(api)
    own_card = (await api.persona("guardian"))["cards"][0]["cardId"]
    stranger = await api.sign_in("sealed")
    body = {"onBehalfOf": dependant_id, "kind": "temporary"}
    refused = [
        # A child's card without saying for whom; one's own as a child's; somebody else's child.
        await loss(guardian, card_id, {"kind": "temporary"}),
        await loss(guardian, own_card, body),
        await loss(stranger, card_id, body),
        await loss(stranger, card_id, {"onBehalfOf": dependant_id}, "loss/cancel"),
        await cards_of(stranger, dependant_id),
        await cards_of(guardian, "dep_aaaaaaaaaaaaaaaaaaaaaaaa"),
        await cards_of(guardian, "nonsense"),
    ]
    assert {(reply.status, reply.code) for reply in refused} == {(404, "not_found")}
    assert (await end(guardian, dependant_id)).status == 200
    over = [await loss(guardian, card_id, body), await cards_of(guardian, dependant_id)]
    assert {(reply.status, reply.code) for reply in over} == {(404, "not_found")}
    minor = await api.sign_in("minor", "face")
    (card,) = (await minor.get("/v1/cards")).json["items"]
    assert card["status"] == "active"


async def test_a_dependants_cards_are_shown_to_no_session_that_has_ended(api: Api) -> None:
    guardian, minor = await api.sign_in("guardian"), await api.sign_in("minor", "face")
    (told,) = (await api.persona("guardian"))["dependants"]
    assert (await guardian.post("/v1/sessions/logout")).status == 200
    assert (await cards_of(guardian, told["dependantId"])).code == "token_revoked"
    assert await log_of(minor) == []
