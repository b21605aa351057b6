import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from service.mongo.client import Collection, Database, Document
from service.mongo.reads import MOST_IDS, MOST_QUERIES, Reads


@pytest.fixture
async def collection(database: Database) -> AsyncIterator[Collection]:
    numbers = database.collection("reads")
    for number in range(200):
        await numbers.replace({"_id": f"n{number}", "value": 0})
    yield numbers
    await numbers.delete_all()


async def test_readers_who_come_at_every_moment_are_all_answered(collection: Collection) -> None:
    reads = Reads(collection)
    chance = random.Random(1)

    async def read() -> None:
        for _ in range(60):
            number = chance.randrange(220)
            found = await reads.get(f"n{number}")
            assert (found is not None) is (number < 200)
            await asyncio.sleep(chance.choice((0, 0, 0.0005)))

    async with asyncio.timeout(20):
        await asyncio.gather(*(read() for _ in range(40)))


class _OnDemand(Collection):
    """A collection that answers when the test says so: only so can a reader be placed between two steps of the loop."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[None]] = []

    async def find_one(self, query: Mapping[str, Any], projection: Mapping[str, Any] | None = None) -> Document | None:
        del projection
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]
        return dict(query)


async def test_a_reader_who_comes_as_a_query_ends_is_not_forgotten() -> None:
    collection = _OnDemand()
    reads = Reads(collection, most_queries=1)
    first = asyncio.create_task(reads.get("first"))
    while not collection.asked:
        await asyncio.sleep(0)
    # Woken one after the other in the same turn: the query, which finds nobody waiting and ends, and then the reader.
    collection.asked[0].set_result(None)
    second = asyncio.create_task(reads.get("second"))
    assert await first == {"_id": "first"}
    async with asyncio.timeout(2):
        while len(collection.asked) < 2:
            await asyncio.sleep(0.001)
        collection.asked[1].set_result(None)
        assert await second == {"_id": "second"}


async def test_everybody_sees_what_was_acknowledged_before_they_asked(collection: Collection) -> None:
    reads = Reads(collection)
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
            found = await reads.get("n1")
            assert found is not None
            assert found["value"] >= before

    await asyncio.gather(write(), *(read() for _ in range(30)))


async def test_more_readers_than_a_query_takes_are_answered_by_several(collection: Collection) -> None:
    reads = Reads(collection)
    wanted = MOST_IDS * MOST_QUERIES
    found = await asyncio.gather(*(reads.get(f"n{number % 200}") for number in range(wanted * 3)))
    assert [document["_id"] for document in found if document] == [f"n{number % 200}" for number in range(wanted * 3)]


async def test_a_reader_who_gives_up_takes_nobody_along(collection: Collection) -> None:
    reads = Reads(collection)
    readers = [asyncio.create_task(reads.get("n7")) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, dict) and result["_id"] == "n7" for result in results[1:])
