"""The threads in which the driver waits."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from service.config import Config
from service.errors import Refusal
from service.mongo.client import Database, insertion
from service.mongo.threads import Threads

ASKED_BY: ContextVar[str] = ContextVar("asked_by")


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    made = Threads(3)
    yield made
    made.stop()


class _Gate:
    """A call that waits in its thread until it is let go, and counts how many are there."""

    def __init__(self) -> None:
        self.here: set[int] = set()
        self.calls = 0
        self._opened = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        self.here.add(threading.get_ident())
        if not self._opened.wait(10):
            raise TimeoutError
        return "through"

    def open(self) -> None:
        self._opened.set()

    async def full(self, calls: int) -> None:
        """Return when so many have begun."""
        async with asyncio.timeout(10):
            while self.calls < calls:
                await asyncio.sleep(0.001)


async def test_a_call_gives_what_it_returns_or_raises(threads: Threads) -> None:
    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(lambda: 8) == 8


async def test_a_call_sees_what_was_bound_when_it_was_asked_for(threads: Threads) -> None:
    ASKED_BY.set("first")
    gate = _Gate()
    held = [threads.run(gate) for _ in range(3)]
    first = threads.run(ASKED_BY.get)
    ASKED_BY.set("second")
    second = threads.run(ASKED_BY.get)
    gate.open()
    assert (await first, await second) == ("first", "second")
    await asyncio.gather(*held)


async def test_as_many_are_under_way_as_there_are_threads_and_the_others_follow(threads: Threads) -> None:
    gate = _Gate()
    calls = [threads.run(gate) for _ in range(8)]
    await gate.full(3)
    await asyncio.sleep(0.05)
    assert (gate.calls, len(gate.here)) == (3, 3)
    gate.open()
    assert await asyncio.gather(*calls) == ["through"] * 8
    assert len(gate.here) == 3


async def test_calls_that_follow_one_another_need_one_thread(threads: Threads) -> None:
    assert len({await threads.run(threading.get_ident) for _ in range(20)}) == 1


async def test_the_loop_goes_on_while_calls_wait(threads: Threads) -> None:
    begun = time.monotonic()
    call = threads.run(lambda: time.sleep(0.3))
    await asyncio.sleep(0.01)
    assert time.monotonic() - begun < 0.2
    await call


async def test_who_gives_up_stops_what_has_not_begun_and_nothing_else(threads: Threads) -> None:
    gate, later = _Gate(), _Gate()
    later.open()
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    begun = [threads.run(gate) for _ in range(3)]
    await gate.full(3)
    waiting = [threads.run(later) for _ in range(2)]
    begun[0].cancel()
    waiting[0].cancel()
    gate.open()
    assert await asyncio.gather(*begun[1:], waiting[1]) == ["through"] * 3
    # Who gave up has left no room taken either: all three work again.
    again = _Gate()
    calls = [threads.run(again) for _ in range(3)]
    await again.full(3)
    again.open()
    await asyncio.gather(*calls)
    assert (later.calls, faults) == (1, [])
    asyncio.get_running_loop().set_exception_handler(None)


def test_a_loop_that_is_over_is_no_longer_told() -> None:
    threads, gate = Threads(1), _Gate()

    async def leave() -> None:
        threads.run(gate)
        await gate.full(1)

    asyncio.run(leave())
    gate.open()

    async def ask() -> str:
        async with asyncio.timeout(10):
            return await threads.run(gate)

    # The thread has outlived it.
    assert asyncio.run(ask()) == "through"
    threads.stop()


async def test_threads_end_when_they_are_told_to() -> None:
    made, gate = Threads(3), _Gate()
    calls = [made.run(gate) for _ in range(3)]
    await gate.full(3)
    made.stop()
    gate.open()
    # What was under way is finished.
    assert await asyncio.gather(*calls) == ["through"] * 3
    await _ended(gate.here)


async def _ended(threads: set[int]) -> None:
    async with asyncio.timeout(10):
        while threads & {thread.ident for thread in threading.enumerate()}:
            await asyncio.sleep(0.001)


async def test_a_database_that_is_left_takes_its_threads_with_it(config: Config) -> None:
    before = set(threading.enumerate())
    async with Database(config.mongodb_uri.get_secret_value(), "left", deadline_seconds=5, pool=2) as database:
        await database.collection("things").find_one({"_id": 1})
        ours = {thread.ident or 0 for thread in threading.enumerate() if thread not in before and thread.name == "driver"}
    assert len(ours) == 1
    await _ended(ours)


async def test_who_asks_after_the_end_is_answered_all_the_same() -> None:
    made, gate = Threads(2), _Gate()
    call = made.run(gate)
    await gate.full(1)
    made.stop()
    assert await made.run(lambda: 7) == 7
    gate.open()
    assert await call == "through"
    made.stop()


async def test_a_database_that_was_left_refuses_and_keeps_nobody_waiting(config: Config) -> None:
    async with Database(config.mongodb_uri.get_secret_value(), "left", deadline_seconds=5, pool=2) as database:
        collection = database.collection("things")
        assert await collection.find_one({"_id": 1}) is None
    async with asyncio.timeout(2):
        with pytest.raises(Refusal) as refused:
            await collection.find_one({"_id": 1})
        with pytest.raises(Refusal):
            await collection.bulk([insertion({"_id": 1})])
    assert refused.value.code == "unavailable"
