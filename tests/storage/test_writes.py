import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import pytest
from storage.conftest import Raw

from service.errors import Refusal
from service.mongo.batches import Trips
from service.mongo.client import Collection, Database, Duplicate, Operation, StorageError
from service.mongo.writes import MOST_BULKS, MOST_WRITES, Writes

NAME = "written"


class _Counted(Collection):
    """A collection that remembers how large each trip was, and how many were out at once."""

    def __init__(self, collection: Collection) -> None:
        self._of = collection
        self.trips: list[int] = []
        self.out = 0
        self.most_out = 0

    def shared_trips(self, kind: Literal["read", "write"]) -> Trips:
        return self._of.shared_trips(kind)

    async def bulk(self, operations: Sequence[Operation]) -> tuple[int, dict[int, Exception]]:
        self.trips.append(len(operations))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            return await self._of.bulk(operations)
        finally:
            self.out -= 1


@pytest.fixture
async def collection(own: Database, raw: Raw) -> AsyncIterator[_Counted]:
    await own.validate(NAME, {"bsonType": "object", "properties": {"n": {"bsonType": "int"}}})
    raw[NAME].insert_one({"_id": "bystander", "n": 0})
    yield _Counted(own.collection(NAME))
    assert raw[NAME].find_one({"_id": "bystander"}) == {"_id": "bystander", "n": 0}
    raw.drop_collection(NAME)


async def test_writers_of_one_moment_share_trips_and_each_write_is_there(collection: _Counted, raw: Raw) -> None:
    writes = Writes(collection)
    await asyncio.gather(*(writes.insert({"_id": str(n), "n": n}) for n in range(500)))
    assert raw[NAME].count_documents({"n": {"$gte": 0}}) == 501
    assert sum(collection.trips) == 500
    assert len(collection.trips) < 20
    assert max(collection.trips) <= MOST_WRITES
    assert collection.most_out <= MOST_BULKS


async def test_who_comes_while_a_trip_is_out_goes_with_the_next(collection: _Counted) -> None:
    writes = Writes(collection)
    first = writes.insert({"_id": "first"})
    while not collection.out:
        await asyncio.sleep(0)
    second = writes.insert({"_id": "second"})
    await asyncio.gather(first, second)
    assert collection.trips == [1, 1]


async def test_a_refused_write_is_its_own_writers_alone(collection: _Counted, raw: Raw) -> None:
    writes = Writes(collection)
    taken, wrong, *good = await asyncio.gather(
        writes.insert({"_id": "bystander"}),
        writes.insert({"_id": "wrong", "n": "no number"}),
        *(writes.insert({"_id": str(n), "n": n}) for n in range(10)),
        return_exceptions=True,
    )
    assert collection.trips == [12]
    assert isinstance(taken, Duplicate)
    assert isinstance(wrong, StorageError)
    assert "no number" not in str(wrong)
    assert not any(isinstance(one, BaseException) for one in good)
    assert {document["_id"] for document in raw[NAME].find()} == {"bystander", *map(str, range(10))}


async def test_an_update_is_sure_only_when_everybody_on_the_trip_found_theirs(collection: _Counted, raw: Raw) -> None:
    writes = Writes(collection)
    await asyncio.gather(*(writes.insert({"_id": str(n), "n": 0}) for n in range(4)))
    ours = [writes.update({"_id": str(n), "n": 0}, {"$inc": {"n": 1}}) for n in range(4)]
    assert await asyncio.gather(*ours) == [True] * 4
    theirs = [writes.update({"_id": str(n), "n": n % 2}, {"$inc": {"n": 10}}) for n in range(4)]
    assert await asyncio.gather(*theirs) == [False] * 4
    assert [raw[NAME].find_one({"_id": str(n)})["n"] for n in range(4)] == [1, 11, 1, 11]  # type: ignore[index]  # they are there, or the test fails
    assert await writes.update({"_id": "0", "n": 1}, {"$inc": {"n": 1}})
    assert not await writes.update({"_id": "0", "n": 1}, {"$inc": {"n": 1}})


async def test_an_upsert_counts_as_found_and_the_same_one_twice_makes_one_document(collection: _Counted, raw: Raw) -> None:
    writes = Writes(collection)
    outcomes = await asyncio.gather(
        *(writes.update({"_id": "same"}, {"$inc": {"n": 1}}, upsert=True) for _ in range(200)), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert all(isinstance(one, Duplicate) for one in refused)
    assert raw[NAME].find_one({"_id": "same"}) == {"_id": "same", "n": 200 - len(refused)}


async def test_who_gives_up_before_the_trip_writes_nothing_and_takes_nobody_along(collection: _Counted, raw: Raw) -> None:
    writes = Writes(collection)
    gone, here = writes.insert({"_id": "gone"}), writes.insert({"_id": "here"})
    gone.cancel()
    await here
    assert raw[NAME].find_one({"_id": "gone"}) is None
    assert raw[NAME].find_one({"_id": "here"}) is not None


async def test_when_the_database_is_away_everybody_on_the_trip_is_told() -> None:
    async with Database("mongodb://127.0.0.1:1/?directConnection=true", "away", deadline_seconds=0.3, pool=2) as away:
        writes = Writes(away.collection(NAME))
        outcomes = await asyncio.gather(*(writes.insert({"_id": n}) for n in range(5)), return_exceptions=True)
    assert [one.code for one in outcomes if isinstance(one, Refusal)] == ["unavailable"] * 5
