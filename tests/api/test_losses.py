"""Losing a card, finding it again, and that a screen offers exactly what the server accepts."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from api.client import Api, Reply

# Changing a PIN takes a body that is right; these are right for nobody, and judged before the PIN is.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "reportTemporaryLoss": ("loss", {"kind": "temporary"}),
    "reportFormalLoss": ("loss", {"kind": "formal"}),
    "cancelLoss": ("loss/cancel", {}),
}


async def card_of(api: Api, persona: str, index: int = 0) -> str:
    card_id: str = (await api.persona(persona))["cards"][index]["cardId"]
    return card_id


async def lose(client: Api, card_id: str, kind: str, key: str = "new") -> Reply:
    return await client.post(f"/v1/cards/{card_id}/loss", {"kind": kind}, key=key)


async def find(client: Api, card_id: str, key: str = "new") -> Reply:
    return await client.post(f"/v1/cards/{card_id}/loss/cancel", {}, key=key)


async def events(client: Api, card_id: str) -> list[tuple[str, str, str, str]]:
    items = (await client.get(f"/v1/cards/{card_id}/history")).json["items"]
    return [(item["event"], item["from"], item["to"], item["channel"]) for item in items]


def reason_of(reply: Reply) -> str:
    """The word a screen has for a refusal: its `reason`, else its code in the same spelling."""
    words = reply.code.split("_")
    named: str = reply.json.get("reason") or words[0] + "".join(word.capitalize() for word in words[1:])
    return named


def actions(card: Any) -> dict[str, str | None]:
    return {item["action"]: item["reason"] for item in card["actions"]}


async def test_a_card_is_lost_for_a_while_and_found_again(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    lost = await lose(client, card_id, "temporary")
    assert (lost.status, lost.json["status"], lost.json["functions"]["social"]["active"]) == (200, "temporarilyLost", False)
    assert actions(lost.json) == {
        "activate": "temporarilyLost",
        "reportTemporaryLoss": "temporarilyLost",
        "reportFormalLoss": None,
        "cancelLoss": None,
        "replace": "temporarilyLost",
        "changePin": "temporarilyLost",
    }
    assert lost.json == (await client.get(f"/v1/cards/{card_id}")).json
    found = await find(client, card_id)
    assert (found.status, found.json["status"]) == (200, "active")
    assert (await events(client, card_id))[:2] == [
        ("lossCancelled", "temporarilyLost", "active", "app"),
        ("temporaryLossReported", "active", "temporarilyLost", "app"),
    ]
    person = await api.persona("active")
    sent = [message["template"] for message in await api.messages(person["mobile"])]
    assert sent[:2] == ["loss_cancelled", "temporary_loss_reported"]


async def test_a_formal_loss_ends_every_use_and_is_cancelled_where_the_region_allows_it(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    assert (await lose(client, card_id, "temporary")).status == 200
    lost = await lose(client, card_id, "formal")
    assert lost.json["status"] == "formallyLost"
    assert {action for action, reason in actions(lost.json).items() if reason is None} == {"cancelLoss", "replace"}
    newest, *_ = await api.messages((await api.persona("active"))["mobile"])
    assert newest["template"] == "formal_loss_reported"
    await api.advance(400 * 86_400)
    client = await api.sign_in("active")
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "formallyLost"
    assert (await find(client, card_id)).json["status"] == "active"


async def test_where_a_region_never_cancels_a_formal_loss_the_answer_says_what_is_left(api: Api) -> None:
    client, card_id = await api.sign_in("two-generations"), await card_of(api, "two-generations")
    assert (await lose(client, card_id, "formal")).json["status"] == "formallyLost"
    reply = await find(client, card_id)
    assert (reply.status, reply.code) == (409, "transition_not_allowed")
    assert (reply.json["from"], reply.json["allowed"], reply.json["reason"]) == ("formallyLost", ["replace"], "notInThisRegion")


async def test_a_temporary_loss_ends_by_the_clock_and_leaves_nothing_to_cancel(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    assert (await lose(client, card_id, "temporary")).status == 200
    await api.advance(7 * 86_400 - 60)
    client = await api.sign_in("active")
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "temporarilyLost"
    await api.advance(120)
    shown = (await client.get(f"/v1/cards/{card_id}")).json
    assert (shown["status"], actions(shown)["cancelLoss"]) == ("active", "active")
    reply = await find(client, card_id)
    assert (reply.status, reply.code, reply.json["from"]) == (409, "transition_not_allowed", "active")
    assert reply.json["allowed"] == ["reportTemporaryLoss", "reportFormalLoss", "replace", "changePin"]
    again = await lose(client, card_id, "temporary")
    assert again.json["status"] == "temporarilyLost"
    assert (await events(client, card_id))[0] == ("temporaryLossReported", "active", "temporarilyLost", "app")
    await api.advance(6 * 86_400)
    client = await api.sign_in("active")
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "temporarilyLost"


async def test_a_retry_gets_the_same_bytes_and_changes_nothing_more(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    first = await lose(client, card_id, "temporary", "once")
    assert (await find(client, card_id)).status == 200
    for _ in range(10):
        again = await lose(client, card_id, "temporary", "once")
        assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "active"
    assert (await lose(client, card_id, "formal", "once")).code == "idempotency_key_reused"
    assert (await client.post(f"/v1/cards/{card_id}/loss", {"kind": "formal"})).code == "idempotency_key_missing"


async def test_of_a_hundred_reports_at_once_one_happens(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    replies = await asyncio.gather(*(lose(client, card_id, "temporary") for _ in range(100)))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 99
    assert {(reply.code, reply.json["from"]) for reply in replies if reply.status == 409} == {
        ("transition_not_allowed", "temporarilyLost")
    }
    assert [event[0] for event in await events(client, card_id)].count("temporaryLossReported") == 1
    sent = [message["template"] for message in await api.messages((await api.persona("active"))["mobile"])]
    assert sent.count("temporary_loss_reported") == 1


async def test_reports_and_findings_at_once_leave_an_unbroken_history(api: Api) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    verbs = [lose(client, card_id, "temporary") for _ in range(20)] + [find(client, card_id) for _ in range(20)]
    replies = await asyncio.gather(*verbs)
    assert {reply.status for reply in replies} <= {200, 409, 503}
    told = (await events(client, card_id))[::-1]
    assert sum(reply.status == 200 for reply in replies) == len(told) - 1
    for (_, _, left, _), (_, begun, _, _) in pairwise(told):
        assert left == begun
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == told[-1][2]


@pytest.mark.parametrize("body", [{}, {"kind": "forever"}, {"kind": "temporary", "days": 3}, {"kind": None}])
async def test_a_loss_is_temporary_or_formal(api: Api, body: dict[str, Any]) -> None:
    client, card_id = await api.sign_in("active"), await card_of(api, "active")
    assert (await client.post(f"/v1/cards/{card_id}/loss", body, key="new")).code == "invalid_request"


async def test_a_password_session_may_look_but_report_nothing(api: Api) -> None:
    client, card_id = await api.sign_in("active", "password"), await card_of(api, "active")
    for path, body in (*BODIES.values(), ("pin", {"currentPin": "123456", "newPin": "274913"})):
        reply = await client.post(f"/v1/cards/{card_id}/{path}", body, key="new")
        assert (reply.status, reply.code, reply.json["requiredAssurance"]) == (403, "assurance_too_low", 2)
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "active"


async def test_somebody_elses_card_is_not_found_and_not_lost(api: Api) -> None:
    client, other = await api.sign_in("sealed"), await card_of(api, "active")
    for path, body in (*BODIES.values(), ("pin", {"currentPin": "123456", "newPin": "274913"})):
        for card_id in (other, "card_aaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"):
            assert (await client.post(f"/v1/cards/{card_id}/{path}", body, key="new")).code == "not_found"
    owner = await api.sign_in("active")
    assert (await owner.get(f"/v1/cards/{other}")).json["status"] == "active"


PERSONAS = [
    *("sealed", "active", "temporarily-lost", "formally-lost", "locked", "cancelled", "not-delivered", "test-card"),
    *("frozen-medical", "cross-region", "not-interconnected", "two-generations", "old-generation", "hk-resident"),
    *("retired-region-id", "guardian", "minor", "unlinked-minor", "flexible-worker", "level3-region", "other-format"),
]


@pytest.mark.parametrize("persona", PERSONAS)
async def test_what_a_screen_offers_is_what_the_server_accepts(api: Api, persona: str) -> None:
    """For every card and every action, each on a card that is as new: offered is accepted, and the reason is the same."""
    person = await api.persona(persona)
    for index, printed in enumerate(person["cards"]):
        card_id = printed["cardId"]
        client = await api.sign_in(persona, "face")
        offered = actions((await client.get(f"/v1/cards/{card_id}")).json)
        assert set(offered) >= {"activate", "changePin", *BODIES}
        for action, reason in offered.items():
            await api.post("/sandbox/reset", {})
            if action == "activate":
                reply = await client.activate(await api.details(persona, index))
                done = reply.status == 200 and reply.json["result"] == "activated"
                told = None if done else "alreadyActivated" if reply.status == 200 else reason_of(reply)
            elif action == "changePin":
                # One that is judged and wrong says as well that it may be changed.
                body = {"currentPin": "274913", "newPin": "380572"}
                reply = await client.post(f"/v1/cards/{card_id}/pin", body, key="new")
                told = None if reply.code == "pin_incorrect" else reason_of(reply)
            elif action in BODIES:
                path, body = BODIES[action]
                reply = await client.post(f"/v1/cards/{card_id}/{path}", body, key="new")
                told = None if reply.status == 200 else reason_of(reply)
            else:
                continue
            assert (action, told) == (action, reason)
            if reply.status == 409 and reply.code == "transition_not_allowed":
                assert reply.json["allowed"] == [name for name, why in offered.items() if why is None]
