"""What takes two people: asking, deciding, and what becomes of the card."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from api.client import Api, Reply

from service.changes import ROUNDS
from service.mongo.client import Database

APPROVALS = "/v1/staff/approvals"
A_DAY = 24 * 3600


async def card_id(api: Api, key: str) -> str:
    return str((await api.persona(key))["cards"][0]["cardId"])


async def ask_cancel(client: Api, card: str, reason: str = "death", key: str = "new") -> Reply:
    return await client.post(f"/v1/staff/cards/{card}/cancel", {"reason": reason}, key=key)


async def ask_reverse(client: Api, card: str) -> Reply:
    return await client.post(f"/v1/staff/cards/{card}/activation/reverse", {"reason": "the wrong person"}, key="new")


async def say(client: Api, approval: Any, word: str, key: str = "new", **body: str) -> Reply:
    return await client.post(f"{APPROVALS}/{approval['approvalId']}/{word}", body, key=key)


async def status(api: Api, key: str) -> str:
    client = await api.sign_in(key, "face")
    return str((await client.get(f"/v1/cards/{await card_id(api, key)}")).json["status"])


async def events(api: Api, key: str) -> list[str]:
    client = await api.sign_in(key, "face")
    return [item["event"] for item in (await client.get(f"/v1/cards/{await card_id(api, key)}/history")).json["items"]]


async def templates(api: Api, key: str) -> list[str]:
    """What a persona was told, but for codes and of sign-ins; newest first."""
    sent = [message["template"] for message in await api.messages((await api.persona(key))["mobile"])]
    return [template for template in sent if template not in {"verification_code", "new_device"}]


async def the_clerk_and_the_supervisor(api: Api) -> tuple[Api, Api]:
    return await api.sign_in_staff("bureau"), await api.sign_in_staff("bureau-supervisor")


# The way of it.


async def test_cancelling_is_asked_for_by_one_and_done_when_another_approves(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    asked = await ask_cancel(clerk, await card_id(api, "active"))
    assert asked.status == 202
    approval = asked.json
    me = (await clerk.get("/v1/staff/me")).json
    assert approval["askedBy"] == {
        "role": "bureauClerk",
        "institutionId": me["institution"]["institutionId"],
        "institutionName": me["institution"]["name"],
        "nameMasked": me["nameMasked"],
    }
    assert (approval["kind"], approval["state"], approval["reason"]) == ("cancel", "pending", "death")
    assert (approval["cardId"], approval["decidedBy"]) == (await card_id(api, "active"), None)
    assert await status(api, "active") == "active"
    done = await say(supervisor, approval, "approve", reason="seen the certificate")
    assert (done.status, done.json["state"], done.json["decisionReason"]) == (200, "approved", "seen the certificate")
    assert done.json["carriedOutAt"] is not None
    assert done.json["decidedBy"]["role"] == "bureauSupervisor"
    assert await status(api, "active") == "cancelled"
    assert (await events(api, "active"))[0] == "cancelled"
    assert (await templates(api, "active"))[0] == "card_cancelled"
    log = await (await api.sign_in("active", "face")).accesses()
    assert sorted((entry["action"], entry["by"], entry["reason"]) for entry in log) == [
        ("cancel", "bureauClerk", "death"),
        ("cancel", "bureauSupervisor", "approved"),
    ]


async def test_an_activation_is_reversed_and_can_be_made_again(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    asked = await ask_reverse(clerk, await card_id(api, "active"))
    assert (asked.status, asked.json["kind"], asked.json["reason"]) == (202, "reverseActivation", "the wrong person")
    assert (await say(supervisor, asked.json, "approve")).json["state"] == "approved"
    assert await status(api, "active") == "sealed"
    assert (await templates(api, "active"))[0] == "activation_reversed"
    client = await api.sign_in("active")
    assert (await client.activate(await api.details("active"))).json["result"] == "activated"


async def test_a_card_locked_for_fraud_is_unlocked_when_another_approves(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    card = await card_id(api, "active")
    assert (await clerk.post(f"/v1/staff/cards/{card}/lock", {"reason": "fraud"}, key="new")).status == 200
    body = {"materials": ["card", "idCard"]}
    asked = await clerk.post(f"/v1/staff/cards/{card}/unlock", body, key="new")
    assert (asked.status, asked.json["reason"]) == (202, None)
    assert (await say(supervisor, asked.json, "approve")).json["state"] == "approved"
    assert await status(api, "active") == "active"


async def test_what_is_only_asked_for_says_so_in_an_envelope_too(api: Api) -> None:
    clerk, card = await api.sign_in_staff("bureau"), await card_id(api, "active")
    headers = {"Accept": "application/vnd.yika.envelope+json", "Idempotency-Key": "enveloped"}
    reply = await clerk.post(f"/v1/staff/cards/{card}/cancel", {"reason": "error"}, headers=headers)
    assert (reply.status, reply.json["httpStatus"], reply.json["data"]["state"]) == (200, 202, "pending")


async def test_what_is_rejected_changes_nothing_and_may_be_asked_for_again(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    card = await card_id(api, "active")
    first = (await ask_cancel(clerk, card)).json
    rejected = await say(supervisor, first, "reject", reason="no certificate")
    assert (rejected.json["state"], rejected.json["carriedOutAt"]) == ("rejected", None)
    assert await status(api, "active") == "active"
    again = (await ask_cancel(clerk, card)).json
    assert (again["state"], again["approvalId"] == first["approvalId"]) == ("pending", False)


# Who decides.


async def test_nobody_decides_what_they_asked_for_themselves(api: Api) -> None:
    supervisor, other = await api.sign_in_staff("bureau-supervisor"), await api.sign_in_staff("bureau-supervisor2")
    approval = (await ask_cancel(supervisor, await card_id(api, "active"))).json
    for word in ("approve", "reject"):
        reply = await say(supervisor, approval, word)
        assert (reply.status, reply.code, reply.json["reason"]) == (403, "forbidden", "secondPersonRequired")
    assert await status(api, "active") == "active"
    assert (await say(other, approval, "approve")).status == 200
    assert await status(api, "active") == "cancelled"


async def test_only_supervisors_of_the_cards_region_see_and_decide(api: Api, database: Database) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    approval = (await ask_cancel(clerk, await card_id(api, "active"))).json
    for key in ("bureau2", "bank-own", "hospital", "hotline", "employer", "production"):
        client = await api.sign_in_staff(key)
        for reply in (await client.get(APPROVALS), await say(client, approval, "approve")):
            assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["bureau"])
    assert (await say(clerk, approval, "approve")).code == "channel_not_allowed"
    assert (await say(await api.sign_in("active"), approval, "approve")).code == "forbidden"
    place = (await supervisor.get("/v1/staff/me")).json["institution"]["institutionId"]
    await database.collection("institutions").update({"_id": place}, {"$set": {"regionCodes": ["990200"]}})
    assert (await supervisor.get(APPROVALS)).json["items"] == []
    assert (await say(supervisor, approval, "approve")).code == "channel_not_allowed"
    assert await status(api, "active") == "active"


async def test_what_is_no_approval_is_not_found(api: Api) -> None:
    supervisor = await api.sign_in_staff("bureau-supervisor")
    for nothing in ("apr_" + "a" * 24, "nonsense"):
        assert (await say(supervisor, {"approvalId": nothing}, "approve")).code == "not_found"


# Once.


@pytest.mark.parametrize("words", [("approve", "approve"), ("approve", "reject")])
async def test_of_two_supervisors_who_decide_at_once_one_does(api: Api, words: tuple[str, str]) -> None:
    clerk = await api.sign_in_staff("bureau")
    supervisors = [await api.sign_in_staff(key) for key in ("bureau-supervisor", "bureau-supervisor2")]
    for persona in ("active", "guardian", "flexible-worker"):
        approval = (await ask_cancel(clerk, await card_id(api, persona))).json
        replies = await asyncio.gather(
            *(say(supervisors[n % 2], approval, words[n % 2]) for n in range(2 * ROUNDS)),
        )
        good = [reply for reply in replies if reply.status == 200]
        assert len(good) == 1
        assert {(reply.status, reply.code) for reply in replies if reply.status != 200} == {(409, "approval_decided")}
        approved = good[0].json["state"] == "approved"
        assert await status(api, persona) == ("cancelled" if approved else "active")
        assert (await events(api, persona)).count("cancelled") == (1 if approved else 0)


async def test_the_same_word_with_the_same_key_is_the_same_answer(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    approval = (await ask_cancel(clerk, await card_id(api, "active"), key="ask")).json
    assert (await ask_cancel(clerk, await card_id(api, "active"), key="ask")).json == approval
    first, second = [await say(supervisor, approval, "approve", "word") for _ in range(2)]
    assert (first.status, first.raw) == (second.status, second.raw)
    assert (await say(supervisor, approval, "approve")).code == "approval_decided"
    assert (await ask_cancel(clerk, await card_id(api, "active"), key="ask")).json == approval
    assert (await events(api, "active")).count("cancelled") == 1


async def test_many_who_ask_for_the_same_get_the_one_that_is_pending(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    card = await card_id(api, "active")
    replies = await asyncio.gather(*(ask_cancel((clerk, supervisor)[n % 2], card) for n in range(20)))
    assert {reply.status for reply in replies} == {202}
    assert len({reply.json["approvalId"] for reply in replies}) == 1
    # Another action is another question.
    assert (await ask_reverse(clerk, card)).json["approvalId"] != replies[0].json["approvalId"]
    assert len((await supervisor.get(f"{APPROVALS}?state=pending")).json["items"]) == 2


async def test_a_request_that_is_asked_again_after_its_answer_was_lost_is_the_same_approval(
    api: Api, database: Database
) -> None:
    """As after a kill: the approval is there, and nobody remembers the answer."""
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    approval = (await ask_cancel(clerk, await card_id(api, "active"), key="lost")).json
    await _forget_answers(database)
    assert (await ask_cancel(clerk, await card_id(api, "active"), key="lost")).json == approval
    assert (await say(supervisor, approval, "approve", "word")).status == 200
    await _forget_answers(database)
    again = await say(supervisor, approval, "approve", "word")
    assert (again.status, again.json["state"]) == (200, "approved")
    late = await ask_cancel(clerk, await card_id(api, "active"), key="lost")
    assert (late.status, late.json["approvalId"], late.json["state"]) == (202, approval["approvalId"], "approved")
    assert (await events(api, "active")).count("cancelled") == 1


async def _forget_answers(database: Database) -> None:
    """The leases of everything that was asked have run out, and no answer was kept."""
    over = {"$set": {"leaseUntil": datetime(2020, 1, 1, tzinfo=UTC), "answer": None}}
    await database.collection("idempotency").update_all({}, over)


# In time, and while the card allows it.


async def test_an_approval_runs_out_after_a_day_and_may_then_be_asked_for_again(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    card = await card_id(api, "active")
    approval = (await ask_cancel(clerk, card)).json
    await api.advance(A_DAY)
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    for word in ("approve", "reject"):
        reply = await say(supervisor, approval, word)
        assert (reply.status, reply.code) == (409, "approval_expired")
    listed = (await supervisor.get(f"{APPROVALS}?state=expired")).json["items"]
    assert [(item["approvalId"], item["state"]) for item in listed] == [(approval["approvalId"], "expired")]
    assert (await supervisor.get(f"{APPROVALS}?state=pending")).json["items"] == []
    again = (await ask_cancel(clerk, card)).json
    assert again["approvalId"] != approval["approvalId"]
    assert (await say(supervisor, approval, "approve")).code == "approval_expired"
    assert (await say(supervisor, again, "approve")).json["state"] == "approved"


async def test_a_card_that_allows_it_no_more_makes_the_approval_fail_and_says_why(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    card = await card_id(api, "active")
    approval = (await ask_reverse(clerk, card)).json
    assert (await clerk.post(f"/v1/staff/cards/{card}/lock", {"reason": "fraud"}, key="new")).status == 200
    reply = await say(supervisor, approval, "approve")
    assert (reply.status, reply.json["state"], reply.json["failure"]) == (200, "failed", "locked")
    assert reply.json["carriedOutAt"] is None
    assert await status(api, "active") == "locked"
    listed = (await supervisor.get(f"{APPROVALS}?state=failed")).json["items"]
    assert [(item["approvalId"], item["failure"]) for item in listed] == [(approval["approvalId"], "locked")]


async def test_nothing_is_asked_for_that_the_table_refuses(api: Api) -> None:
    clerk = await api.sign_in_staff("bureau")
    reply = await ask_cancel(clerk, await card_id(api, "cancelled"))
    assert (reply.status, reply.code, reply.json["from"]) == (409, "transition_not_allowed", "cancelled")
    assert (await ask_reverse(clerk, await card_id(api, "sealed"))).code == "transition_not_allowed"
    supervisor = await api.sign_in_staff("bureau-supervisor")
    assert (await supervisor.get(APPROVALS)).json["items"] == []


# The list.


async def test_the_list_is_walked_page_by_page_newest_first(api: Api) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    keys = ("active", "locked", "sealed", "sealed2", "guardian")
    asked = [(await ask_cancel(clerk, await card_id(api, key))).json["approvalId"] for key in keys]
    whole = (await supervisor.get(APPROVALS)).json
    assert ([item["approvalId"] for item in whole["items"]], whole["hasMore"]) == (asked[::-1], False)
    walked, cursor = [], ""
    while True:
        page = (await supervisor.get(f"{APPROVALS}?limit=2&state=pending&cursor={cursor}")).json
        walked += [item["approvalId"] for item in page["items"]]
        if not page["hasMore"]:
            break
        cursor = page["nextCursor"]
    assert walked == asked[::-1]
    for query in ("state=open", "limit=0", "cursor=eA", "cursor=!"):
        assert (await supervisor.get(f"{APPROVALS}?{query}")).code == "invalid_request"


async def test_an_approval_holds_nothing_in_plain_that_somebody_wrote(api: Api, database: Database) -> None:
    clerk, supervisor = await the_clerk_and_the_supervisor(api)
    approval = (await ask_reverse(clerk, await card_id(api, "active"))).json
    await say(supervisor, approval, "reject", reason="rings true")
    document = await database.collection("approvals").find_one({"_id": approval["approvalId"]})
    assert document is not None
    names = [(await api.persona(key))["name"] for key in ("bureau", "bureau-supervisor", "active")]
    assert all(secret not in repr(document) for secret in (*names, "the wrong person", "rings true"))
