"""Work that goes on in rounds: at once while there is some, else when somebody calls or a while has passed.

True here: a round that fails is logged and the next one comes; whoever is called without end still takes a breath, and leaves
time to others. Never here: what the work is.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog

from service.errors import Refusal

POLL_SECONDS: Final = 1.0
LONGEST_PAUSE: Final = 0.25

_log = structlog.get_logger("relay")


class Round:
    """Work that is done again and again, at once as long as there is some."""

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, bool]],
        pause: Callable[[float], Coroutine[Any, Any, None]],
        breath: float,
    ) -> None:
        self._work = work
        self._pause = pause
        self._breath = breath
        self.ear = asyncio.Event()

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.ear.clear()
            begun = loop.time()
            if await tried(self._work()):
                await self._pause(loop.time() - begun)
            else:
                await rest(self.ear, self._breath)


async def pause(factor: float, seconds: float) -> None:
    """After some work of so many seconds. The busier the process, the longer work takes, and the more it leaves to others."""
    await asyncio.sleep(min(factor * seconds, LONGEST_PAUSE))


async def rest(ear: asyncio.Event, breath: float) -> None:
    """Wait to be woken, POLL_SECONDS at most. Who is woken without end takes a breath between two looks."""
    await asyncio.sleep(breath)
    with suppress(TimeoutError):
        async with asyncio.timeout(POLL_SECONDS):
            await ear.wait()


async def tried(work: Coroutine[Any, Any, bool]) -> bool:
    """Whether there was anything to do; False when it failed, and the loop goes on."""
    try:
        return await work
    except Refusal as refusal:
        _log.warning("relay_waits", code=refusal.code)
    except Exception as error:  # noqa: BLE001  the loop must outlive it
        _log.error("relay_failed", error=type(error).__name__)
    return False
