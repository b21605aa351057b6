import asyncio
import time

import pytest

from handlers.deadlines import Deadlines

SHORT = 0.2


def _this() -> asyncio.Task[None]:
    task: asyncio.Task[None] | None = asyncio.current_task()
    assert task is not None
    return task


async def _slow(deadlines: Deadlines) -> None:
    with deadlines(_this()):
        await asyncio.sleep(30)


async def test_what_takes_too_long_is_told_so_in_time() -> None:
    deadlines = Deadlines(SHORT)
    begun = time.monotonic()
    outcomes = await asyncio.gather(*(_slow(deadlines) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
    assert SHORT <= time.monotonic() - begun < 4 * SHORT


async def test_what_ends_in_time_is_left_alone_and_so_is_what_its_task_does_next() -> None:
    deadlines = Deadlines(SHORT)
    for _ in range(3):
        with deadlines(_this()):
            await asyncio.sleep(SHORT / 2)
    await asyncio.sleep(2 * SHORT)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_is_measured_from_its_own_beginning() -> None:
    deadlines = Deadlines(SHORT)
    first = asyncio.create_task(_slow(deadlines))
    await asyncio.sleep(SHORT * 0.7)
    second = asyncio.create_task(_slow(deadlines))
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    with pytest.raises(TimeoutError):
        await second


async def test_who_is_cancelled_by_somebody_else_is_cancelled() -> None:
    task = asyncio.create_task(_slow(Deadlines(30)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_as_the_deadline_ends_is_cancelled() -> None:
    deadlines = Deadlines(SHORT)

    async def stubborn() -> None:
        with deadlines(_this()):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                # Still clearing up when the other one comes.
                await asyncio.sleep(30)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(2 * SHORT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_of_its_own_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="its own"), Deadlines(SHORT)(_this()):
        raise ValueError("its own")


async def test_nothing_looks_when_nobody_is_under_way() -> None:
    deadlines = Deadlines(SHORT)
    with pytest.raises(TimeoutError):
        await _slow(deadlines)
    await asyncio.sleep(SHORT)
    assert deadlines._look is None  # noqa: SLF001  an idle process sleeps
