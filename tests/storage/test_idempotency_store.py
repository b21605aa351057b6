import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import bson
import pytest
from storage.conftest import Raw

from service.clock import Clock
from service.errors import Refusal
from service.idempotency import KEPT, LEASE, Answer, Claim, Found, Idempotency
from service.mongo.client import Database
from service.mongo.idempotency import MongoIdempotencyStore
from service.vault import Vault, VaultError

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
PRINT, OTHER_PRINT = b"p" * 32, b"q" * 32
FIRST = Answer(200, "application/json", '{"name":"张伟"}'.encode())
SECOND = Answer(422, "application/problem+json", b'{"code":"second"}')
BYSTANDER = {
    "_id": b"bystander",
    "since": NOW,
    "fingerprint": PRINT,
    "leaseUntil": NOW,
    "fence": 1,
    "answer": None,
    "expiresAt": NOW + KEPT,
}


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoIdempotencyStore]:
    """A store with somebody else's claim in it, which no test may change."""
    raw.idempotency.replace_one({"_id": b"bystander"}, BYSTANDER, upsert=True)
    yield MongoIdempotencyStore(own, vault)
    assert raw.idempotency.find_one({"_id": b"bystander"}) == BYSTANDER
    raw.idempotency.delete_many({})


@pytest.fixture
def mark() -> bytes:
    return secrets.token_bytes(32)


async def _claim(store: MongoIdempotencyStore, mark: bytes, at: datetime = NOW, print_: bytes = PRINT) -> Claim:
    claim = await store.claim(mark, print_, at, LEASE, KEPT)
    assert isinstance(claim, Claim)
    return claim


async def _found(store: MongoIdempotencyStore, mark: bytes, at: datetime = NOW, print_: bytes = PRINT) -> Found:
    found = await store.claim(mark, print_, at, LEASE, KEPT)
    assert isinstance(found, Found)
    return found


async def test_a_key_is_claimed_once_and_its_answer_given_again(store: MongoIdempotencyStore, mark: bytes) -> None:
    claim = await _claim(store, mark)
    assert claim == Claim(mark, NOW, 1)
    assert await _found(store, mark) == Found(PRINT, NOW + LEASE, None)
    await store.complete(claim, FIRST)
    for at in (NOW, NOW + LEASE, NOW + KEPT - timedelta(milliseconds=1)):
        assert (await _found(store, mark, at)).answer == FIRST


async def test_of_a_hundred_at_once_over_two_connections_one_gets_the_key(
    store: MongoIdempotencyStore, second: Database, vault: Vault, mark: bytes
) -> None:
    stores = (store, MongoIdempotencyStore(second, vault))
    got = await asyncio.gather(*(stores[n % 2].claim(mark, PRINT, NOW, LEASE, KEPT) for n in range(100)))
    assert [isinstance(one, Claim) for one in got].count(True) == 1
    got = await asyncio.gather(*(stores[n % 2].claim(mark, PRINT, NOW + LEASE, LEASE, KEPT) for n in range(100)))
    (claim,) = [one for one in got if isinstance(one, Claim)]
    assert (claim.since, claim.fence) == (NOW, 2)


async def test_a_lease_that_ran_out_is_taken_over_and_no_sooner(store: MongoIdempotencyStore, mark: bytes) -> None:
    await _claim(store, mark)
    await _found(store, mark, NOW + LEASE - timedelta(milliseconds=1))
    assert await _claim(store, mark, NOW + LEASE) == Claim(mark, NOW, 2)
    await _found(store, mark, NOW + LEASE)
    assert await _claim(store, mark, NOW + 2 * LEASE) == Claim(mark, NOW, 3)


async def test_another_request_never_takes_a_key_over(store: MongoIdempotencyStore, mark: bytes) -> None:
    await _claim(store, mark)
    assert (await _found(store, mark, NOW + 2 * LEASE, OTHER_PRINT)).fingerprint == PRINT


async def test_whoever_comes_late_with_an_old_claim_changes_nothing(
    store: MongoIdempotencyStore, mark: bytes, raw: Raw
) -> None:
    late = await _claim(store, mark)
    claim = await _claim(store, mark, NOW + LEASE)
    before = raw.idempotency.find_one({"_id": mark})
    await store.complete(late, SECOND)
    await store.release(late)
    assert raw.idempotency.find_one({"_id": mark}) == before
    await store.complete(claim, FIRST)
    before = raw.idempotency.find_one({"_id": mark})
    await store.complete(late, SECOND)
    await store.release(late)
    await store.release(claim)
    assert raw.idempotency.find_one({"_id": mark}) == before
    assert (await _found(store, mark)).answer == FIRST


async def test_an_old_claim_means_nothing_to_a_key_that_was_freed_and_used_anew(
    store: MongoIdempotencyStore, mark: bytes, raw: Raw
) -> None:
    late = await _claim(store, mark)
    await store.release(await _claim(store, mark, NOW + LEASE))
    anew = await _claim(store, mark, NOW + 2 * LEASE, OTHER_PRINT)
    before = raw.idempotency.find_one({"_id": mark})
    await store.complete(late, SECOND)
    await store.release(late)
    assert raw.idempotency.find_one({"_id": mark}) == before
    await store.complete(anew, FIRST)
    assert (await _found(store, mark, print_=OTHER_PRINT)).answer == FIRST


async def test_a_key_under_which_nothing_happened_is_free_at_once(store: MongoIdempotencyStore, mark: bytes) -> None:
    await store.release(await _claim(store, mark))
    assert await _claim(store, mark, NOW, OTHER_PRINT) == Claim(mark, NOW, 1)


@pytest.mark.parametrize("answered", [True, False])
async def test_a_key_that_is_forgotten_begins_anew_also_before_it_is_swept_away(
    store: MongoIdempotencyStore, mark: bytes, *, answered: bool
) -> None:
    old = await _claim(store, mark)
    if answered:
        await store.complete(old, FIRST)
    later = NOW + KEPT
    claim = await _claim(store, mark, later, OTHER_PRINT)
    assert claim == Claim(mark, later, 2)
    await store.complete(old, SECOND)
    assert (await _found(store, mark, later, OTHER_PRINT)).answer is None
    await store.complete(claim, SECOND)
    assert (await _found(store, mark, later + KEPT - timedelta(seconds=1), OTHER_PRINT)).answer == SECOND


async def test_an_answer_is_sealed_for_its_key(store: MongoIdempotencyStore, mark: bytes, raw: Raw) -> None:
    await store.complete(await _claim(store, mark), FIRST)
    document = raw.idempotency.find_one({"_id": mark})
    assert document is not None
    lies = bson.encode(document)
    assert all(part.encode() not in lies for part in ("张伟", "name", "\\u5f20"))
    other = secrets.token_bytes(32)
    raw.idempotency.insert_one(document | {"_id": other})
    with pytest.raises(VaultError):
        await store.claim(other, PRINT, NOW, LEASE, KEPT)


class _Stopped(Clock):
    """A clock that stands where it is put."""

    at = NOW

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def keys(store: MongoIdempotencyStore, vault: Vault) -> tuple[Idempotency, _Stopped]:
    clock = _Stopped()
    return Idempotency(store, vault, clock), clock


async def test_the_same_key_of_another_caller_is_another_key(keys: tuple[Idempotency, _Stopped]) -> None:
    idempotency, _ = keys
    mine = await idempotency.claim("hld_a", "key", b"body")
    theirs = await idempotency.claim("hld_b", "key", b"body")
    assert isinstance(mine, Claim)
    assert isinstance(theirs, Claim)
    assert mine.mark != theirs.mark


async def test_a_key_in_use_says_when_to_come_back_and_another_body_that_it_is_taken(
    keys: tuple[Idempotency, _Stopped],
) -> None:
    idempotency, clock = keys
    claim = await idempotency.claim("hld_a", "key", b"body")
    assert isinstance(claim, Claim)
    for waited in (timedelta(0), LEASE / 2, LEASE - timedelta(milliseconds=1)):
        clock.at = NOW + waited
        with pytest.raises(Refusal) as refused:
            await idempotency.claim("hld_a", "key", b"body")
        assert (refused.value.code, refused.value.retry_after) == ("idempotency_in_flight", 1)
        with pytest.raises(Refusal, match="idempotency_key_reused"):
            await idempotency.claim("hld_a", "key", b"another")
    await idempotency.complete(claim, FIRST)
    assert await idempotency.claim("hld_a", "key", b"body") == FIRST
    with pytest.raises(Refusal, match="idempotency_key_reused"):
        await idempotency.claim("hld_a", "key", b"another")


async def test_a_retry_of_a_use_has_its_mark_and_the_next_use_has_another(keys: tuple[Idempotency, _Stopped]) -> None:
    idempotency, clock = keys
    first = await idempotency.claim("hld_a", "key", b"body")
    clock.at = NOW + LEASE
    retried = await idempotency.claim("hld_a", "key", b"body")
    clock.at = NOW + KEPT + LEASE
    next_day = await idempotency.claim("hld_a", "key", b"body")
    assert isinstance(first, Claim)
    assert isinstance(retried, Claim)
    assert isinstance(next_day, Claim)
    marks = [idempotency.request_mark(claim) for claim in (first, retried, next_day)]
    assert marks[0] == marks[1] != marks[2]
    assert idempotency.request_mark(replace(first, mark=b"another" * 4)) not in marks
