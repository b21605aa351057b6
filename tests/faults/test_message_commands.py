"""`python -m service messages …` on a database with messages in every state."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from faults.post_office import NOTICE, Post
from faults.workers import ROOT

from service.clock import Clock
from service.config import Config
from service.deliveries import Claim
from service.mongo.client import Database
from service.mongo.undelivered import MongoUndeliveredStore
from service.notifications import Notice, State
from service.undelivered import STUCK, Undelivered, UndeliveredError

Command = Callable[..., Awaitable[str]]


@pytest.fixture
async def ids(post: Post) -> AsyncIterator[dict[str, str]]:
    """A message in each state, by the state."""
    made: dict[str, str] = {}
    now = datetime.now(UTC)
    for number, state in enumerate(get_args(State)):
        await post.notifications.post(
            Notice(f"told:{number}", NOTICE.template, NOTICE.to, "en", NOTICE.values, until=now + timedelta(hours=1))
        )
        (document,) = post.raw.messages.find({"_id": {"$nin": list(made.values())}})
        # What is being sent has its lease.
        due_at = now + timedelta(hours=1) if state == "sending" else now + timedelta(seconds=number)
        moments = {"createdAt": now, "settledAt": now, "dueAt": due_at}
        post.raw.messages.update_one({"_id": document["_id"]}, {"$set": {"state": state, "attempts": 3, **moments}})
        made[state] = document["_id"]
    before = {document["_id"]: document for document in post.raw.messages.find()}
    yield made
    # Whatever was asked for, what is under way and what arrived is nobody's to touch.
    for state in ("sending", "sent", "closed"):
        assert post.raw.messages.find_one({"_id": made[state]}) == before[made[state]]


@pytest.fixture
def messages(config: Config, post: Post) -> Command:
    """Runs a command; what it said, on both ways. It is told of no keyring."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")} | {
        "COLUMNS": "200",
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": post.raw.name,
    }

    async def run(*arguments: str, status: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "messages", *arguments),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert process.returncode == status, said.decode()
        assert "Traceback" not in said.decode()
        return said.decode()

    return run


@pytest.fixture
def undelivered(post: Post, post_database: Database) -> Undelivered:
    """What the commands do, without a process for each."""
    del post
    return Undelivered(MongoUndeliveredStore(post_database), Clock())


def _document(post: Post, message_id: str) -> dict[str, Any]:
    document = post.raw.messages.find_one({"_id": message_id})
    assert document is not None
    return document


async def test_the_list_shows_what_is_stuck_and_no_number_or_text(messages: Command, ids: dict[str, str]) -> None:
    both, dead, _ = await asyncio.gather(
        messages("list"), messages("list", "--state", "dead"), messages("list", "--state", "sent", status=2)
    )
    for said, states in ((both, {"dead", "uncertain"}), (dead, {"dead"})):
        assert {state for state, message_id in ids.items() if message_id in said} == states
        assert "verification_code" in said
        assert "sms" in said
        assert all(secret not in said for secret in (NOTICE.to, "314159", "code is"))


async def test_a_command_says_what_it_found_and_what_it_did(messages: Command, post: Post, ids: dict[str, str]) -> None:
    again, settled, unknown = await asyncio.gather(
        messages("resend", ids["dead"]),
        messages("settle", ids["uncertain"]),
        messages("resend", "msg_nobody", status=1),
    )
    assert "was dead, goes out again" in again
    assert "was uncertain, settled" in settled
    assert "there is no message msg_nobody" in unknown
    again, settled = await asyncio.gather(messages("resend", ids["dead"]), messages("settle", ids["uncertain"]))
    assert "waits to go out; nothing was changed" in again
    assert "is settled; nothing was changed" in settled
    assert [_document(post, ids[state])["state"] for state in ("dead", "uncertain")] == ["due", "closed"]


@pytest.mark.parametrize("state", ["dead", "uncertain"])
async def test_a_message_that_is_stuck_is_offered_again_once_however_often_somebody_says_so(
    undelivered: Undelivered, post: Post, ids: dict[str, str], state: str
) -> None:
    assert await undelivered.resend(ids[state]) == state
    document = _document(post, ids[state])
    assert (document["state"], document["attempts"]) == ("due", 0)
    assert await asyncio.gather(*(undelivered.resend(ids[state]) for _ in range(5))) == ["due"] * 5
    assert _document(post, ids[state]) == document
    post.clock.at = datetime.now(UTC) + timedelta(minutes=1)
    await post.deliver()
    assert [sms.message_id for sms in post.provider.sent].count(ids[state]) == 1
    assert await undelivered.resend(ids[state]) == "sent"
    await post.deliver()
    assert [sms.message_id for sms in post.provider.sent].count(ids[state]) == 1


async def test_whoever_comes_late_from_a_try_before_the_resending_settles_nothing(
    undelivered: Undelivered, post: Post, ids: dict[str, str]
) -> None:
    fence = _document(post, ids["uncertain"])["fence"]
    await undelivered.resend(ids["uncertain"])
    post.clock.at = datetime.now(UTC) + timedelta(minutes=1)
    claims = await post.deliveries.claim("codes", 10)
    assert ids["uncertain"] in {claim.message.message_id for claim in claims if isinstance(claim, Claim)}
    await post.messages.settle(ids["uncertain"], fence, "dead", post.clock.now())
    assert _document(post, ids["uncertain"])["state"] == "sending"


async def test_a_message_that_is_settled_is_neither_listed_nor_counted_nor_sent_again(
    undelivered: Undelivered, post: Post, ids: dict[str, str]
) -> None:
    for state in ("dead", "uncertain"):
        assert await undelivered.settle(ids[state]) == state
        document = _document(post, ids[state])
        assert document["state"] == "closed"
        assert await undelivered.settle(ids[state]) == "closed"
        assert _document(post, ids[state]) == document
        with pytest.raises(UndeliveredError, match="not sent any more"):
            await undelivered.resend(ids[state])
    assert await undelivered.listed(STUCK) == ([], False)
    backlog = await post.relay.backlog()
    assert (backlog.dead, backlog.uncertain) == (0, 0)


async def test_what_goes_out_by_itself_or_is_of_no_use_is_refused(
    undelivered: Undelivered, post: Post, ids: dict[str, str]
) -> None:
    for state in ("due", "sending"):
        with pytest.raises(UndeliveredError, match="on its way"):
            await undelivered.settle(ids[state])
    assert await undelivered.settle(ids["sent"]) == "sent"
    over = {"until": datetime.now(UTC) - timedelta(seconds=1)}
    post.raw.messages.update_one({"_id": ids["dead"]}, {"$set": over})
    with pytest.raises(UndeliveredError, match="was of use until"):
        await undelivered.resend(ids["dead"])
    assert _document(post, ids["dead"])["state"] == "dead"


async def test_what_came_to_it_last_is_listed_first(undelivered: Undelivered, ids: dict[str, str]) -> None:
    found, more = await undelivered.listed(STUCK)
    assert [one.message_id for one in found] == [ids["uncertain"], ids["dead"]]
    assert not more
