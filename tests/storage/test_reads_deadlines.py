"""Coalesced reads and deadlines, on a wire to the database that carries nothing for a while and is not cut either."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from api.client import Api
from faults.workers import Wire
from pydantic import SecretStr
from storage.conftest import Commands

from service.config import Config
from service.errors import Refusal
from service.mongo.client import Collection, Database, Document
from service.mongo.reads import Reads
from service.server import serving


@pytest.fixture
async def collection(database: Database) -> AsyncIterator[Collection]:
    numbers = database.collection("hanging")
    for number in range(200):
        await numbers.replace({"_id": f"n{number}", "value": 0})
    yield numbers
    await numbers.delete_all()


def _itself(document: Document) -> Document:
    return document


@pytest.fixture
async def wire(config: Config) -> AsyncIterator[Wire]:
    address = urlsplit(config.mongodb_uri.get_secret_value())
    assert address.hostname is not None
    assert address.port is not None
    async with Wire(address.hostname, address.port) as made:
        yield made


async def _end(wire: Wire) -> None:
    """Cut it, and let the cut be felt: a driver that is closed says goodbye on this thread, which carries the wire too."""
    wire.cut()
    await asyncio.sleep(0.1)


def _through(wire: Wire) -> str:
    return f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"


async def test_a_query_that_hangs_keeps_nobody_beyond_their_deadline(
    config: Config, collection: Collection, wire: Wire
) -> None:
    clock = time.monotonic
    async with Database(_through(wire), config.mongodb_database, deadline_seconds=0.6, pool=8) as database:
        get = Reads(database.collection(collection.name), _itself).get
        assert await get("n1") == {"_id": "n1", "value": 0}
        wire.stall()
        begun = clock()

        async def impatient(number: int) -> float:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await get(f"n{number}")
            return clock() - begun

        async def patient(number: int) -> float:
            with pytest.raises(Refusal, match="unavailable"):
                await get(f"n{number}")
            return clock() - begun

        first = [asyncio.create_task(patient(number)) for number in range(5)]
        await asyncio.sleep(0.1)
        # They come while that query hangs, some for the very same documents.
        hurried = [asyncio.create_task(impatient(number)) for number in range(200)]
        assert max(await asyncio.gather(*hurried)) < 2
        # A query has a deadline of its own, so also one who would wait for ever is told.
        last = asyncio.create_task(patient(199))
        assert max(await asyncio.gather(*first)) < 2
        assert await last < 3.5
        await collection.update({"_id": "n1"}, {"$set": {"value": 7}})
        wire.flow()
        begun = clock()
        found: Document | None = None
        while found is None:
            with suppress(Refusal):
                found = await get("n1")
        assert found == {"_id": "n1", "value": 7}
        assert clock() - begun < 5
        await _end(wire)


@pytest.mark.parametrize("readers", [1, 5])
async def test_every_read_is_of_what_a_majority_holds(config: Config, collection: Collection, readers: int) -> None:
    finds, uri = Commands(), config.mongodb_uri.get_secret_value()
    async with Database(uri, config.mongodb_database, deadline_seconds=5, pool=1, listeners=[finds]) as database:
        for zoned in (True, False):
            get = Reads(database.collection(collection.name, zoned=zoned), _itself).get
            await asyncio.gather(*(get(f"n{number}") for number in range(readers)))
    assert [find["readConcern"]["level"] for name, find in finds.sent if name == "find"] == ["majority"] * 2


async def test_a_read_whose_time_is_up_is_not_tried_again(config: Config, collection: Collection, wire: Wire) -> None:
    finds = Commands()
    async with Database(_through(wire), config.mongodb_database, deadline_seconds=2, pool=8, listeners=[finds]) as database:
        numbers = database.collection(collection.name)
        # Several connections are open, so that a second try would have one to go on.
        await asyncio.gather(*(numbers.find_one({"_id": "n1"}) for _ in range(8)))
        finds.sent.clear()
        wire.stall()
        with pytest.raises(Refusal, match="unavailable"):
            await numbers.find_one({"_id": "n1"})
        assert finds.names.count("find") == 1
        wire.flow()
        await _end(wire)


@pytest.mark.parametrize("readers", [1, 5])
async def test_a_connection_that_broke_meanwhile_is_nobodys_failure(
    config: Config, collection: Collection, wire: Wire, readers: int
) -> None:
    async with Database(_through(wire), config.mongodb_database, deadline_seconds=5, pool=1) as database:
        get = Reads(database.collection(collection.name), _itself).get
        assert await get("n1") == {"_id": "n1", "value": 0}
        # The database was away for a moment, while nobody asked anything.
        wire.cut()
        wire.mend()
        found = await asyncio.gather(*(get(f"n{number}") for number in range(readers)))
        assert found == [{"_id": f"n{number}", "value": 0} for number in range(readers)]
        await _end(wire)


async def test_every_request_is_answered_by_its_deadline_although_the_database_hangs(
    config: Config, api: Api, wire: Wire
) -> None:
    token = (await api.tokens("active", "face"))["accessToken"]
    slow = config.model_copy(update={"mongodb_uri": SecretStr(_through(wire)), "request_seconds": 1})
    async with serving(slow) as other, Api(other.url, token) as client:
        assert (await client.get("/v1/me")).status == 200

        async def ask(after: float) -> tuple[int, str, bool]:
            await asyncio.sleep(after)
            begun = time.monotonic()
            reply = await client.get("/v1/me")
            return reply.status, reply.code, time.monotonic() - begun < 1 + 1

        wire.stall()
        replies = await asyncio.gather(*(ask(after) for after in (0, 0.4, 0.7, 0.9) for _ in range(25)))
        assert set(replies) == {(503, "unavailable", True)}
        wire.flow()
        async with asyncio.timeout(10):
            while (await client.get("/v1/me")).status != 200:
                await asyncio.sleep(0.1)
        await _end(wire)
