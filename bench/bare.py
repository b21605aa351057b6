"""The driver by itself: what an activation and an import are built on, with nothing around it.

`python -m bench.bare activate|insert`. True here: motor on uvloop, the same collections, indexes, validator and concerns as
Yika's; whatever can be prepared is prepared before the clock starts. Never here: a check of anything. Reads MONGODB_URI,
MONGODB_DATABASE, INPUT (a file, or files but for their suffix), SECONDS, IN_FLIGHT; prints one line of JSON.
"""

import asyncio
import mmap
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ReturnDocument, WriteConcern
from pymongo.read_concern import ReadConcern

from service.ids import CardId, derived_id

Cards = AsyncIOMotorCollection[dict[str, Any]]
Work = tuple[dict[str, Any], dict[str, Any]]
_BATCH: Final = 1000
_STATE: Final = {"history": 0, "outbox": 0}


def _cards(client: "AsyncIOMotorClient[dict[str, Any]]") -> Cards:
    database = client.get_database(
        os.environ["MONGODB_DATABASE"],
        write_concern=WriteConcern("majority", j=True),
        read_concern=ReadConcern("majority"),
    )
    return database["cards"]


def prepared(card_id: CardId, holder_id: str, at: datetime) -> Work:
    """Filter and update of one activation, as `MongoCardStore.change` writes it; the bench compares what both leave."""
    activation_id = derived_id("act", card_id, "0")
    return {"_id": card_id, "status": "sealed", "version": 0}, {
        "$set": {
            "status": "active",
            "activation": {"id": activation_id, "at": at, "channel": "app", "by": holder_id, "request": bytes(32)},
        },
        "$inc": {"version": 1},
        "$push": {
            "history": {
                "id": f"{card_id}:1",
                "at": at,
                "happening": "activated",
                "from": "sealed",
                "to": "active",
                "channel": "app",
                "by": holder_id,
                "reason": None,
                "request": bytes(32),
            },
            "outbox": {"id": f"{card_id}:1", "at": at, "happening": "activated", "tell": holder_id, "locale": "zh-CN"},
        },
    }


def _works(given: Path) -> Iterator[Work]:
    """What is to be written, all of it made now."""
    now = datetime.now(UTC)
    pairs = [line.split() for line in given.read_text().splitlines()]
    return iter([prepared(CardId(card_id), holder_id, now) for card_id, holder_id in pairs])


async def _activate(cards: Cards) -> dict[str, float]:
    """Activate card after card, so many at a time, until the time is over or none is left."""
    left = _works(Path(os.environ["INPUT"]))
    took: list[float] = []
    begin = time.perf_counter()
    until = begin + float(os.environ["SECONDS"])

    async def some() -> None:
        while (started := time.perf_counter()) < until:
            work = next(left, None)
            if work is None:
                return
            query, update = work
            changed = await cards.find_one_and_update(query, update, projection=_STATE, return_document=ReturnDocument.AFTER)
            if changed is None:
                raise AssertionError("every card here is sealed")
            took.append(time.perf_counter() - started)

    cpu = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(int(os.environ["IN_FLIGHT"])):
            group.create_task(some())
    seconds = time.perf_counter() - begin
    took.sort()
    return {
        "requests": len(took),
        "seconds": seconds,
        "rate": len(took) / seconds,
        "p50": took[len(took) // 2] * 1e6,
        "p99": took[len(took) * 99 // 100] * 1e6,
        "cpu_per_request": (time.process_time() - cpu) / len(took) * 1e6,
        "left": sum(1 for _ in left),
    }


async def _insert(cards: Cards) -> dict[str, float]:
    """Insert people, then cards, in batches of a thousand, some at a time; both files lie encoded in the page cache."""
    places = {kind: Path(os.environ["INPUT"]).with_suffix(f".{kind}") for kind in ("holders", "cards")}
    begin = time.perf_counter()
    cpu = time.process_time()
    count = 0
    for kind, place in places.items():
        collection = cards.database.get_collection(kind, write_concern=cards.write_concern)
        with mmapped(place) as raw:
            batches = _batches(raw)

            async def some(collection: Cards = collection, batches: Iterator[list[RawBSONDocument]] = batches) -> int:
                done = 0
                for batch in batches:
                    await collection.insert_many(batch, ordered=False)
                    done += len(batch)
                return done

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(some()) for _ in range(int(os.environ["IN_FLIGHT"]))]
            count += sum(task.result() for task in tasks)
    return {"documents": count, "seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}


@contextmanager
def mmapped(place: Path) -> Iterator[memoryview]:
    """A file as memory, none of it copied before it is needed."""
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield view
        finally:
            view.release()


def _batches(raw: memoryview) -> Iterator[list[RawBSONDocument]]:
    """A thousand documents at a time. Each begins with its own length."""
    batch: list[RawBSONDocument] = []
    offset = 0
    while offset < len(raw):
        size = int.from_bytes(raw[offset : offset + 4], "little")
        batch.append(RawBSONDocument(bytes(raw[offset : offset + size])))
        offset += size
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _main(what: str) -> dict[str, float]:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(os.environ["MONGODB_URI"], maxPoolSize=64)
    try:
        cards = _cards(client)
        # The connections are there when the clock starts, as they are in a server that is warm.
        await asyncio.gather(*(cards.find_one({"_id": "none"}) for _ in range(int(os.environ["IN_FLIGHT"]))))
        return await WORKS[what](cards)
    finally:
        client.close()


WORKS: Final = {"activate": _activate, "insert": _insert}


if __name__ == "__main__":
    told = uvloop.run(_main(sys.argv[1]))
    told["resident_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
