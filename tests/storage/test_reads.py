"""Coalesced reads, one case at a time: nobody sees less than was acknowledged before they asked."""

import asyncio
import gc
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, Literal, TypeVar

import pytest

from service.errors import Refusal
from service.mongo.batches import PATIENCE, Trips
from service.mongo.client import Collection, Database, Document
from service.mongo.reads import MOST_IDS, MOST_QUERIES, Reads

T = TypeVar("T")
Get = Callable[[str], Coroutine[Any, Any, Document | None]]


def _itself(document: Document) -> Document:
    return document


def _reads(collection: Collection, most_queries: int = MOST_QUERIES) -> Get:
    """How the product reads documents that nobody owns. Nobody in here waits as long as this."""
    reads = Reads(collection, _itself, most_queries=most_queries)

    async def get(document_id: str) -> Document | None:
        async with asyncio.timeout(10):
            return await reads.get(document_id)

    return get


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def collection(database: Database) -> AsyncIterator[Collection]:
    numbers = database.collection("test_reads")
    for number in range(200):
        await numbers.replace({"_id": f"n{number}", "value": 0})
    yield numbers
    await numbers.delete_all()


async def test_readers_who_come_at_every_moment_are_all_answered(collection: Collection) -> None:
    get = _reads(collection)
    chance = random.Random(1)

    async def read() -> None:
        for _ in range(60):
            number = chance.randrange(220)
            found = await get(f"n{number}")
            assert (found is not None) is (number < 200)
            await asyncio.sleep(chance.choice((0, 0, 0.0005)))

    async with asyncio.timeout(20):
        await asyncio.gather(*(read() for _ in range(40)))


class _OnDemand(Collection):
    """A collection that answers when the test says so: only so can a reader be placed between two steps of the loop."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[None]] = []

    def shared_trips(self, kind: Literal["read", "write"]) -> Trips:
        del kind
        return Trips()

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int,
    ) -> list[Document]:
        del projection, sort, limit
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]
        return [dict(query)]


def _reader(reading: Coroutine[Any, Any, Document | None]) -> asyncio.Task[Document | None]:
    return asyncio.create_task(reading)


async def test_a_reader_who_comes_as_a_query_ends_is_not_forgotten() -> None:
    collection = _OnDemand()
    get = _reads(collection, most_queries=1)
    first = _reader(get("first"))
    await _until(lambda: collection.asked)
    # Woken one after the other in the same turn: the query, which finds nobody waiting and ends, and then the reader.
    collection.asked[0].set_result(None)
    second = _reader(get("second"))
    assert await first == {"_id": "first"}
    # At once: not when somebody wonders what became of them.
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(collection.asked) == 2
    collection.asked[1].set_result(None)
    assert await second == {"_id": "second"}


async def test_behind_a_query_that_hangs_others_go_beside_it_up_to_the_bound() -> None:
    collection = _OnDemand()
    get = _reads(collection, most_queries=3)
    readers = []
    for number in range(3):
        readers.append(_reader(get(f"n{number}")))
        await _until(lambda: len(collection.asked) == len(readers))
    readers.append(_reader(get("n3")))
    await asyncio.sleep(3 * PATIENCE)
    assert len(collection.asked) == 3
    collection.asked[1].set_result(None)
    await _until(lambda: len(collection.asked) == 4)
    assert await readers[1] == {"_id": "n1"}
    assert [reader.done() for reader in readers] == [False, True, False, False]
    for asked in collection.asked:
        if not asked.done():
            asked.set_result(None)
    assert [await reader for reader in readers] == [{"_id": f"n{number}"} for number in range(4)]


async def test_everybody_sees_what_was_acknowledged_before_they_asked(collection: Collection) -> None:
    get = _reads(collection)
    acknowledged = 0
    over = False

    async def write() -> None:
        nonlocal acknowledged, over
        for value in range(1, 150):
            await collection.update({"_id": "n1"}, {"$set": {"value": value}})
            acknowledged = value
        over = True

    async def read() -> None:
        while not over:
            before = acknowledged
            found = await get("n1")
            assert found is not None
            assert found["value"] >= before

    await asyncio.gather(write(), *(read() for _ in range(30)))


async def test_more_readers_than_a_query_takes_are_answered_by_several(collection: Collection) -> None:
    get = _reads(collection)
    wanted = MOST_IDS * MOST_QUERIES
    found = await asyncio.gather(*(get(f"n{number % 200}") for number in range(wanted * 3)))
    assert [document["_id"] for document in found if document] == [f"n{number % 200}" for number in range(wanted * 3)]


async def test_a_reader_who_gives_up_takes_nobody_along(collection: Collection) -> None:
    get = _reads(collection)
    readers = [_reader(get("n7")) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, dict) and result["_id"] == "n7" for result in results[1:])


# The rule, and what becomes of a reader without it.


class _Held(Collection):
    """A real collection with a slow way back: what the database answered waits here until it is let go."""

    def __init__(self, real: Collection, patience: float = 0) -> None:
        self._real = real
        self._patience = patience
        self._asking = 0
        self.answers: list[asyncio.Future[None]] = []
        self.calls: list[tuple[str, Any]] = []

    def shared_trips(self, kind: Literal["read", "write"]) -> Trips:
        return self._real.shared_trips(kind)

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int,
    ) -> list[Document]:
        wanted = query["_id"]
        self.calls.append(("alone", wanted) if isinstance(wanted, str) else ("shared", set(wanted["$in"])))
        return await self._hold(self._real.find(query, projection=projection, sort=sort, limit=limit))

    async def _hold(self, asking: Awaitable[T]) -> T:
        self._asking += 1
        try:
            answer = await asking
        finally:
            self._asking -= 1
        self.answers.append(asyncio.get_running_loop().create_future())
        await self.answers[-1]
        return answer

    async def settle(self) -> None:
        """Until the database has answered whoever asks at the moment, or whoever has by then waited too long beside others."""
        await asyncio.sleep(self._patience)
        for _ in range(10):
            await asyncio.sleep(0)
        while self._asking:
            await asyncio.sleep(0.0002)

    async def let_go(self) -> None:
        """The oldest answer arrives."""
        if self.answers:
            self.answers.pop(0).set_result(None)
        await self.settle()


def _joining(collection: Collection) -> Get:
    """Reads with the rule broken: who asks while a query for the same document is out shares the answer on its way."""
    out: dict[str, asyncio.Task[Document | None]] = {}

    async def get(document_id: str) -> Document | None:
        if document_id not in out:
            out[document_id] = asyncio.create_task(collection.find_one({"_id": document_id}))
            out[document_id].add_done_callback(lambda _: out.pop(document_id))
        return await asyncio.shield(out[document_id])

    return get


def _schedules(steps: int) -> Iterator[str]:
    """Every order in which two or more readers ask, a writer writes, and answers arrive."""
    for schedule in product(("ask", "write", "answer"), repeat=steps):
        asked = [schedule[:end].count("ask") - schedule[:end].count("answer") for end in range(1, steps + 1)]
        if asked[0] == 1 and min(asked) >= 0 and schedule.count("ask") > 1 and "write" in schedule:
            yield " ".join(schedule)


async def _stale(
    collection: Collection, schedules: Iterable[str], reads: Callable[[Collection], Get], patience: float
) -> list[str]:
    """The schedules after which a reader had seen less than was acknowledged before they asked."""
    held = _Held(collection, patience)
    await collection.update({"_id": "n1"}, {"$set": {"value": 0}})
    acknowledged = 0
    stale = []

    async def read(get: Get) -> bool:
        before = acknowledged
        found = await get("n1")
        assert found is not None
        return bool(found["value"] < before)

    for schedule in schedules:
        get = reads(held)
        readers: list[asyncio.Task[bool]] = []
        for step in schedule.split():
            if step == "ask":
                readers.append(asyncio.create_task(read(get)))
                await held.settle()
            elif step == "write":
                await collection.update({"_id": "n1"}, {"$set": {"value": acknowledged + 1}})
                acknowledged += 1
            else:
                await held.let_go()
        async with asyncio.timeout(5):
            while not all(reader.done() for reader in readers):
                await held.let_go()
        if any([await reader for reader in readers]):
            stale.append(schedule)
    return stale


def _asks_across_a_write(schedule: str) -> bool:
    return re.search("ask (write )+ask", schedule) is not None


async def test_joining_a_query_that_is_out_reads_stale_and_waiting_for_the_next_does_not(collection: Collection) -> None:
    schedules = list(_schedules(5))
    # Whoever asks after a write is acknowledged, while a query from before it is out, gets what the database said then.
    assert await _stale(collection, schedules, _joining, 0) == [order for order in schedules if _asks_across_a_write(order)]
    for most_queries, patience in ((1, 0.0), (MOST_QUERIES, 0.0), (MOST_QUERIES, 1.5 * PATIENCE)):
        reads = partial(_reads, most_queries=most_queries)
        assert await _stale(collection, schedules, reads, patience) == []


async def test_alone_it_asks_for_one_key(collection: Collection) -> None:
    held = _Held(collection)
    get = _reads(held)
    for number in (3, 4, 4, 999):
        reader = _reader(get(f"n{number}"))
        await _until(lambda: held.answers)
        await held.let_go()
        assert (await reader is None) is (number == 999)
    assert held.calls == [("alone", "n3"), ("alone", "n4"), ("alone", "n4"), ("alone", "n999")]


async def test_documents_that_one_answer_of_the_database_does_not_hold_all_come(collection: Collection) -> None:
    large = {f"n{number}": {"_id": f"n{number}", "value": str(number) * 6_000_000} for number in range(4)}
    for document in large.values():
        await collection.replace(document)
    get = _reads(collection)
    assert await asyncio.gather(*map(get, large)) == [*large.values()]


async def test_readers_of_one_moment_share_one_query_and_those_who_come_after_it_the_next(collection: Collection) -> None:
    held = _Held(collection)
    get = _reads(held, most_queries=1)
    first = [_reader(get(f"n{number % 50}")) for number in range(300)]
    await held.settle()
    assert held.calls == [("shared", {f"n{number}" for number in range(50)})]
    later = [_reader(get(f"n{number % 60}")) for number in range(300)]
    await held.settle()
    assert len(held.calls) == 1
    await held.let_go()
    assert all(
        document and document["_id"] == f"n{number % 50}" for number, document in enumerate(await asyncio.gather(*first))
    )
    assert held.calls[1:] == [("shared", {f"n{number}" for number in range(60)})]
    await held.let_go()
    assert all(
        document and document["_id"] == f"n{number % 60}" for number, document in enumerate(await asyncio.gather(*later))
    )
    assert len(held.calls) == 2


async def test_who_came_first_is_asked_for_first(collection: Collection) -> None:
    held = _Held(collection)
    get = _reads(held, most_queries=1)
    readers = [_reader(get("n199"))]
    await held.settle()
    readers += [_reader(get(f"n{number}")) for number in range(2 * MOST_IDS + 1)]
    async with asyncio.timeout(10):
        while not all(reader.done() for reader in readers):
            await held.let_go()
    first, second = ({f"n{number}" for number in range(MOST_IDS * n, MOST_IDS * (n + 1))} for n in range(2))
    assert held.calls[1:] == [("shared", first), ("shared", second), ("alone", f"n{2 * MOST_IDS}")]


async def test_nothing_is_asked_for_those_who_gave_up(collection: Collection) -> None:
    held = _Held(collection)
    get = _reads(held, most_queries=1)
    first = _reader(get("n0"))
    await held.settle()
    gone = [_reader(get(f"n{number}")) for number in range(1, 150)]
    await asyncio.sleep(0)
    for reader in gone:
        reader.cancel()
    await asyncio.wait(gone)
    alive = _reader(get("n199"))
    await held.settle()
    await held.let_go()
    await held.let_go()
    calls = list(held.calls)
    async with asyncio.timeout(10):
        while not alive.done():
            await held.let_go()
    assert await first == {"_id": "n0", "value": 0}
    assert await alive == {"_id": "n199", "value": 0}
    assert calls == [("alone", "n0"), ("alone", "n199")]


async def test_a_query_that_fails_when_nobody_waits_for_it_is_no_fault() -> None:
    gc.collect()
    loop = asyncio.get_running_loop()
    complaints: list[Mapping[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        collection = _OnDemand()
        reads = Reads(collection, _itself)
        gone, waits, forgotten = (reads.get("lost") for _ in range(3))
        async with asyncio.timeout(10):
            while not collection.asked:
                await asyncio.sleep(0)
        gone.cancel()
        collection.asked[0].set_exception(Refusal("unavailable"))
        with pytest.raises(Refusal, match="unavailable"):
            await waits
        assert forgotten.done()
        # Whatever holds the failure holds its traceback, and that the futures; so does this turn of the loop.
        del gone, waits, forgotten, collection, reads
        await asyncio.sleep(0.01)
        gc.collect()
        assert complaints == []
    finally:
        loop.set_exception_handler(before)
