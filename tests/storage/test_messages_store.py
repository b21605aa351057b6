import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import bson
import pytest
from storage.conftest import Raw

from service.mongo.client import Database
from service.mongo.notifications import KEPT, MongoMessageStore
from service.notifications import LEASE, Message, State
from service.vault import Vault, VaultError

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
MOMENT = timedelta(milliseconds=1)
MESSAGE = Message(
    "msg_a", "15412345678", "verification_code", "您的验证码是 314159", "314159", suppressed=False, attempts=0, fence=0
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


async def _claim(store: MongoMessageStore, at: datetime = NOW) -> tuple[Message, bool]:
    claimed = await store.claim(at, LEASE)
    assert claimed is not None
    return claimed


def _state(raw: Raw, message_id: str = "msg_a") -> str:
    document = raw.messages.find_one({"_id": message_id})
    assert document is not None
    return str(document["state"])


async def test_a_message_is_claimed_as_it_was_added(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    assert await _claim(store) == (replace(MESSAGE, attempts=1, fence=1), False)
    assert await store.claim(NOW, LEASE) is None


async def test_a_message_without_a_code_or_to_nobody_comes_back_so(store: MongoMessageStore) -> None:
    silent = replace(MESSAGE, code=None, suppressed=True)
    await store.add(silent, NOW)
    assert (await _claim(store))[0] == replace(silent, attempts=1, fence=1)


async def test_adding_a_message_again_changes_nothing_whatever_became_of_it(store: MongoMessageStore, raw: Raw) -> None:
    await store.add(MESSAGE, NOW)
    for settle in (None, "sent"):
        if settle == "sent":
            await store.settle((await _claim(store))[0], "sent", NOW)
        before = raw.messages.find_one({"_id": "msg_a"})
        await store.add(replace(MESSAGE, text="another", to="15400000000"), NOW + LEASE)
        assert raw.messages.find_one({"_id": "msg_a"}) == before
    assert await store.claim(NOW + LEASE, LEASE) is None


async def test_the_message_that_is_due_longest_comes_first_and_none_before_its_time(store: MongoMessageStore) -> None:
    for number in (3, 1, 2):
        await store.add(replace(MESSAGE, message_id=f"msg_{number}"), NOW + number * MOMENT)
    assert await store.claim(NOW, LEASE) is None
    order = [(await _claim(store, NOW + LEASE))[0].message_id for _ in range(3)]
    assert order == ["msg_1", "msg_2", "msg_3"]


async def test_a_hundred_claims_over_two_connections_get_each_message_once(
    store: MongoMessageStore, second: Database, vault: Vault
) -> None:
    for number in range(40):
        await store.add(replace(MESSAGE, message_id=f"msg_{number}"), NOW)
    stores = (store, MongoMessageStore(second, vault))
    claims = await asyncio.gather(*(stores[n % 2].claim(NOW, LEASE) for n in range(100)))
    got = [claim[0].message_id for claim in claims if claim is not None]
    # Claims that lose a race try the next; none is lost and none is given twice.
    while (claim := await store.claim(NOW, LEASE)) is not None:
        got.append(claim[0].message_id)
    assert sorted(got) == sorted(f"msg_{number}" for number in range(40))


async def test_a_claim_is_taken_over_when_its_lease_ran_out_and_no_sooner(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    await _claim(store)
    assert await store.claim(NOW + LEASE - MOMENT, LEASE) is None
    assert await _claim(store, NOW + LEASE) == (replace(MESSAGE, attempts=2, fence=2), True)


@pytest.mark.parametrize("state", get_args(State))
async def test_whoever_comes_late_with_an_old_claim_settles_nothing(store: MongoMessageStore, raw: Raw, state: State) -> None:
    await store.add(MESSAGE, NOW)
    late, _ = await _claim(store)
    claimed, _ = await _claim(store, NOW + LEASE)
    before = raw.messages.find_one({"_id": "msg_a"})
    await store.settle(late, state, NOW + LEASE, NOW)
    assert raw.messages.find_one({"_id": "msg_a"}) == before
    await store.settle(claimed, "sent", NOW + LEASE)
    await store.settle(late, state, NOW + LEASE, NOW)
    await store.settle(claimed, state, NOW + LEASE, NOW)
    assert _state(raw) == "sent"


@pytest.mark.parametrize("state", ["sent", "dead", "uncertain"])
async def test_what_is_settled_for_good_is_never_claimed_again(store: MongoMessageStore, raw: Raw, state: State) -> None:
    await store.add(MESSAGE, NOW)
    await store.settle((await _claim(store))[0], state, NOW)
    assert _state(raw) == state
    assert await store.claim(NOW + timedelta(days=1), LEASE) is None
    assert not await store.waiting(NOW + timedelta(days=1), MESSAGE.to)


async def test_a_try_that_failed_is_due_again_at_its_time(store: MongoMessageStore) -> None:
    await store.add(MESSAGE, NOW)
    await store.settle((await _claim(store))[0], "due", NOW, NOW + LEASE)
    assert await store.claim(NOW + LEASE - MOMENT, LEASE) is None
    assert await _claim(store, NOW + LEASE) == (replace(MESSAGE, attempts=2, fence=2), False)


async def test_what_is_due_or_under_way_waits_and_what_is_due_later_does_not(store: MongoMessageStore) -> None:
    assert not await store.waiting(NOW, MESSAGE.to)
    await store.add(MESSAGE, NOW)
    assert not await store.waiting(NOW - MOMENT, MESSAGE.to)
    assert await store.waiting(NOW, MESSAGE.to)
    message, _ = await _claim(store)
    assert await store.waiting(NOW, MESSAGE.to)
    await store.settle(message, "due", NOW, NOW + LEASE)
    assert not await store.waiting(NOW, MESSAGE.to)


async def test_a_message_lies_there_sealed_for_its_place_and_goes_by_itself(store: MongoMessageStore, raw: Raw) -> None:
    await store.add(MESSAGE, NOW)
    document = raw.messages.find_one({"_id": "msg_a"})
    assert document is not None
    assert document["expiresAt"] == NOW + KEPT
    assert all(secret.encode() not in bson.encode(document) for secret in ("15412345678", "314159", "验证码"))
    raw.messages.delete_one({"_id": "msg_a"})
    raw.messages.insert_one(document | {"_id": "msg_b"})
    with pytest.raises(VaultError):
        await store.claim(NOW, LEASE)
