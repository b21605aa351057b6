"""Batches: calls that wait at the same moment share one trip to the database.

Nearly all of a small call's cost is the driver and the journal, not the document, so many small ones are made one. True
here: an item's batch always begins after the item was added; a batch is bounded in size, and batches in number. Items that
come while a batch is out wait for the next, and the larger that is, the cheaper each of them: another goes out beside it only
when it would be full, or when its items have waited PATIENCE because the one that is out hangs. Never here: an item that
waits while nobody is about to fetch it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# Seconds; many times what a batch takes, also in a process that is busy: who is impatient there makes it busier.
PATIENCE: Final = 0.05

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class Trips:
    """How many batches went out, and how many items were in them all together."""

    batches: int = 0
    items: int = 0


class Batches(Generic[ItemT]):
    """Runs added items in batches. `run` answers for every item of its batch and never raises. `trips` counts them."""

    def __init__(
        self, run: Callable[[list[ItemT]], Awaitable[None]], trips: Trips, *, most_items: int, most_batches: int
    ) -> None:
        self._run = run
        self._trips = trips
        self._most_items = most_items
        self._most_batches = most_batches
        self._waiting: list[ItemT] = []
        self._drains: set[asyncio.Task[None]] = set()
        self._impatience: asyncio.TimerHandle | None = None

    def add(self, item: ItemT) -> None:
        """Put an item into a batch that has not begun."""
        self._waiting.append(item)
        if not self._drains or len(self._waiting) >= self._most_items:
            self._start()
        else:
            self._be_patient()

    def _be_patient(self) -> None:
        if self._impatience is None:
            self._impatience = asyncio.get_running_loop().call_later(PATIENCE, self._wait_no_more, context=Context())

    def _wait_no_more(self) -> None:
        self._impatience = None
        if self._waiting:
            self._start()

    def _start(self) -> None:
        if len(self._drains) < self._most_batches:
            # A context of its own: what the first to ask has bound to theirs is not the others'.
            self._drains.add(asyncio.get_running_loop().create_task(self._drain(), context=Context()))

    async def _drain(self) -> None:
        try:
            # One turn of the loop lets everybody who is asking right now come along.
            await asyncio.sleep(0)
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most_items], self._waiting[self._most_items :]
                self._trips.batches += 1
                self._trips.items += len(batch)
                await self._run(batch)
                if len(self._drains) > 1 and len(self._waiting) < self._most_items:
                    # It was needed once. The others go on, each with the more in it; should they hang, see `_wait_no_more`.
                    break
        finally:
            # In the same step in which nobody was seen waiting: whoever comes later must find this drain gone, or they
            # would wait for one that has stopped looking.
            task = asyncio.current_task()
            if task is not None:
                self._drains.discard(task)
            if self._waiting:
                self._be_patient()


def settle(futures: list["asyncio.Future[ItemT]"], value: ItemT) -> None:
    """Give everybody who still waits the value."""
    for future in futures:
        if not future.done():
            future.set_result(value)


def fail(futures: "list[asyncio.Future[ItemT]]", error: Exception) -> None:
    """Give everybody who still waits the failure."""
    for future in futures:
        if not future.done():
            future.set_exception(error)
            # Whoever went away leaves a future that nobody asks; that is no fault.
            future.exception()
