import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import bson
import pytest
from storage.conftest import Raw

from service.deliveries import LEASE, QUEUES, Claim, Queued, Unreadable
from service.keyring import new_keyring
from service.mongo.client import Database
from service.mongo.notifications import KEPT, MongoMessageStore
from service.notifications import Channel, Message, State
from service.vault import Vault

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
MOMENT = timedelta(milliseconds=1)
MESSAGE = Message(
    message_id="msg_a",
    channel="sms",
    to="15412345678",
    template="verification_code",
    subject=None,
    text="您的验证码是 314159",
    code="314159",
    values={"code": "314159"},
    locale="zh-CN",
    suppressed=False,
    attempts=0,
    fence=0,
)
# Due before everything else, but for good settled: a claim must pass over it.
BYSTANDER = replace(MESSAGE, message_id="msg_bystander")


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoMessageStore]:
    """A store with somebody else's message in it, which no test may change."""
    made = MongoMessageStore(own, vault)
    await made.add(BYSTANDER, NOW - timedelta(hours=1))
    raw.messages.update_one({"_id": BYSTANDER.message_id}, {"$set": {"state": "dead"}})
    before = raw.messages.find_one({"_id": BYSTANDER.message_id})
    yield made
    assert raw.messages.find_one({"_id": BYSTANDER.message_id}) == before
    raw.messages.delete_many({})


async def _claim(store: MongoMessageStore, at: datetime = NOW) -> Claim:
    (claim,) = await store.claim("codes", at, LEASE, 1)
    assert isinstance(claim, Claim)
    return claim


async def _none(store: MongoMessageStore, at: datetime) -> bool:
    """Whether there is nothing to be had from any queue."""
    return not [claim for queue in QUEUES for claim in await store.claim(queue, at, LEASE, 10)]


def _state(raw: Raw, message_id: str = "msg_a") -> str:
    document = raw.messages.find_one({"_id": message_id})
    assert document is not None
    return str(document["state"])


def _tried(message: Message, times: int) -> Message:
    return replace(message, attempts=times, fence=times)


async def test_a_message_is_claimed_as_it_was_added(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    assert await _claim(store) == Claim(_tried(MESSAGE, 1), cut_off=False)
    assert await _none(store, NOW)


@pytest.mark.parametrize("channel", get_args(Channel))
async def test_a_message_without_a_code_or_to_nobody_comes_back_so(store: MongoMessageStore, channel: Channel) -> None:
    subject = "您的社会保障卡" if channel == "email" else None
    silent = replace(MESSAGE, channel=channel, subject=subject, code=None, values={}, suppressed=True, until=NOW + LEASE)
    await store.add(silent, NOW)
    assert await store.claim(channel, NOW, LEASE, 1) == [Claim(_tried(silent, 1), cut_off=False)]


async def test_each_queue_gives_its_own_and_codes_have_one_whatever_their_channel(store: MongoMessageStore) -> None:
    for channel in get_args(Channel):
        for code in ("314159", None):
            message_id = f"{channel} with a code" if code else channel
            await store.add(replace(MESSAGE, message_id=message_id, channel=channel, code=code), NOW)
    given = {queue: await store.claim(queue, NOW, LEASE, 10) for queue in QUEUES}
    ids = {q: {claim.message.message_id for claim in claims if isinstance(claim, Claim)} for q, claims in given.items()}
    assert ids == {"codes": {"sms with a code", "email with a code"}, "sms": {"sms"}, "email": {"email"}}


async def test_a_message_of_an_earlier_version_is_a_text_message(store: MongoMessageStore, raw: Raw) -> None:
    await store.add(replace(MESSAGE, code=None, values={}), NOW)
    fields = ("channel", "queue", "subject", "values", "locale")
    raw.messages.update_one({"_id": "msg_a"}, {"$unset": dict.fromkeys(fields, "")})
    (claim,) = await store.claim("sms", NOW, LEASE, 1)
    assert claim == Claim(_tried(replace(MESSAGE, code=None, values={}), 1), cut_off=False)


async def test_adding_a_message_again_changes_nothing_whatever_became_of_it(store: MongoMessageStore, raw: Raw) -> None:
    await store.add(MESSAGE, NOW)
    for settle in (None, "sent"):
        if settle == "sent":
            claim = await _claim(store)
            await store.settle("msg_a", claim.message.fence, "sent", NOW)
        before = raw.messages.find_one({"_id": "msg_a"})
        await store.add(replace(MESSAGE, text="another", to="15400000000"), NOW + LEASE)
        assert raw.messages.find_one({"_id": "msg_a"}) == before
    assert await _none(store, NOW + LEASE)


async def test_the_message_that_is_due_longest_comes_first_and_none_before_its_time(store: MongoMessageStore) -> None:
    for number in (3, 1, 2):
        await store.add(replace(MESSAGE, message_id=f"msg_{number}"), NOW, NOW + number * MOMENT)
    assert await _none(store, NOW)
    order = [(await _claim(store, NOW + LEASE)).message.message_id for _ in range(3)]
    assert order == ["msg_1", "msg_2", "msg_3"]


async def test_a_hundred_claims_over_two_connections_get_each_message_once(
    store: MongoMessageStore, second: Database, vault: Vault
) -> None:
    for number in range(60):
        await store.add(replace(MESSAGE, message_id=f"msg_{number}"), NOW)
    stores = (store, MongoMessageStore(second, vault))
    rounds = await asyncio.gather(*(stores[n % 2].claim("codes", NOW, LEASE, n % 3 + 1) for n in range(100)))
    got = [claim for claims in rounds for claim in claims]
    # Claims that lose a race try the next; none is lost and none is given twice.
    while claims := await store.claim("codes", NOW, LEASE, 7):
        got += claims
    ids = [claim.message.message_id for claim in got if isinstance(claim, Claim)]
    assert sorted(ids) == sorted(f"msg_{number}" for number in range(60))
    assert all(isinstance(claim, Claim) and claim.message.fence == 1 for claim in got)


async def test_a_claim_is_taken_over_when_its_lease_ran_out_and_no_sooner(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    await _claim(store)
    assert await _none(store, NOW + LEASE - MOMENT)
    assert await _claim(store, NOW + LEASE) == Claim(_tried(MESSAGE, 2), cut_off=True)


@pytest.mark.parametrize("state", get_args(State))
async def test_whoever_comes_late_with_an_old_claim_settles_nothing(store: MongoMessageStore, raw: Raw, state: State) -> None:
    await store.add(MESSAGE, NOW)
    late = (await _claim(store)).message.fence
    claimed = (await _claim(store, NOW + LEASE)).message.fence
    before = raw.messages.find_one({"_id": "msg_a"})
    await store.settle("msg_a", late, state, NOW + LEASE, NOW)
    assert raw.messages.find_one({"_id": "msg_a"}) == before
    await store.settle("msg_a", claimed, "sent", NOW + LEASE)
    await store.settle("msg_a", late, state, NOW + LEASE, NOW)
    await store.settle("msg_a", claimed, state, NOW + LEASE, NOW)
    assert _state(raw) == "sent"


@pytest.mark.parametrize("state", ["sent", "dead", "uncertain", "closed"])
async def test_what_is_settled_for_good_is_never_claimed_again(store: MongoMessageStore, raw: Raw, state: State) -> None:
    await store.add(MESSAGE, NOW)
    await store.settle("msg_a", (await _claim(store)).message.fence, state, NOW)
    assert _state(raw) == state
    assert await _none(store, NOW + timedelta(days=1))
    assert not await store.waiting(NOW + timedelta(days=1), MESSAGE.to)


async def test_a_try_that_failed_is_due_again_at_its_time(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    await store.settle("msg_a", (await _claim(store)).message.fence, "due", NOW, NOW + LEASE)
    assert await _none(store, NOW + LEASE - MOMENT)
    assert await _claim(store, NOW + LEASE) == Claim(_tried(MESSAGE, 2), cut_off=False)


async def test_what_is_due_or_under_way_waits_and_what_is_due_later_does_not(store: MongoMessageStore) -> None:
    assert not await store.waiting(NOW, MESSAGE.to)
    await store.add(MESSAGE, NOW)
    assert not await store.waiting(NOW - MOMENT, MESSAGE.to)
    assert await store.waiting(NOW, MESSAGE.to)
    fence = (await _claim(store)).message.fence
    assert await store.waiting(NOW, MESSAGE.to)
    await store.settle("msg_a", fence, "due", NOW, NOW + LEASE)
    assert not await store.waiting(NOW, MESSAGE.to)


async def test_messages_are_counted_by_what_has_to_be_done_about_them(store: MongoMessageStore, raw: Raw) -> None:
    for number, state in enumerate(("due", "due", "sending", "sending", "sent", "dead", "dead", "uncertain", "closed")):
        await store.add(replace(MESSAGE, message_id=f"msg_{number}"), NOW, NOW + number * MOMENT)
        raw.messages.update_one({"_id": f"msg_{number}"}, {"$set": {"state": state}})
    # The bystander is dead too.
    assert await store.queued(NOW - MOMENT) == Queued(0, None, 3, 1)
    # What is being sent is due when its lease has run out, and not before.
    assert await store.queued(NOW + 2 * MOMENT) == Queued(3, NOW, 3, 1)


async def test_a_message_lies_there_sealed_for_its_place_and_goes_by_itself(store: MongoMessageStore, raw: Raw) -> None:
    await store.add(replace(MESSAGE, subject="社会保障卡"), NOW)
    document = raw.messages.find_one({"_id": "msg_a"})
    assert document is not None
    assert document["expiresAt"] == NOW + KEPT
    assert all(secret.encode() not in bson.encode(document) for secret in ("15412345678", "314159", "验证码", "保障卡"))
    raw.messages.delete_one({"_id": "msg_a"})
    raw.messages.insert_one(document | {"_id": "msg_b"})
    assert await store.claim("codes", NOW, LEASE, 1) == [Unreadable("msg_b", attempts=1, fence=1, lasting=True)]


@pytest.mark.parametrize("broken", [{"to": b""}, {"values": b"x" * 40}, {"text": None}, {"code": 7}])
async def test_what_cannot_be_read_is_claimed_beside_what_can(
    store: MongoMessageStore, raw: Raw, broken: dict[str, object]
) -> None:
    for message_id in ("msg_a", "msg_b"):
        await store.add(replace(MESSAGE, message_id=message_id), NOW)
    raw.messages.update_one({"_id": "msg_a"}, {"$set": broken})
    claims = await store.claim("codes", NOW, LEASE, 2)
    assert Unreadable("msg_a", attempts=1, fence=1, lasting=True) in claims
    assert Claim(_tried(replace(MESSAGE, message_id="msg_b"), 1), cut_off=False) in claims


async def test_what_another_keyring_sealed_may_be_read_by_others(store: MongoMessageStore, own: Database) -> None:
    await store.add(MESSAGE, NOW)
    ring = new_keyring("sandbox")
    stranger = MongoMessageStore(own, Vault(lambda: ring))
    assert await stranger.claim("codes", NOW, LEASE, 1) == [Unreadable("msg_a", attempts=1, fence=1, lasting=False)]
