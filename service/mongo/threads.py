"""Threads in which the driver waits for the server, for the calls that nearly every request shares in.

True here: a call begins as soon as a thread is free, in the context of who asked, and its outcome arrives in their loop. The
driver under motor is blocking, so motor does the same for each of its calls; but through an executor and several futures, and
that is a quarter of what a small call costs (docs/decisions/0031). Never here: a thread that holds up the end of the process.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple, TypeVar

# As many calls are under way at once; each waits for the server nearly all of its time.
MOST: Final = 32

ResultT = TypeVar("ResultT")


class _Job(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    context: Context
    call: Callable[[], Any]


class Threads:
    """Some threads, started when they are needed. To be used by one loop at a time."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        self._under_way = 0

    def run(self, call: Callable[[], ResultT]) -> "asyncio.Future[ResultT]":
        """What a blocking call returns or raises. Whoever gives up waiting does not stop a call that has begun."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        self._under_way += 1
        if self._started < min(self._under_way, self._most):
            self._started += 1
            Thread(target=self._work, args=(self._jobs,), name="driver", daemon=True).start()
        self._jobs.put(_Job(loop, future, copy_context(), call))
        return future

    def stop(self) -> None:
        """Let every thread end after what was asked for so far. Whoever asks afterwards is answered by new ones."""
        jobs, started = self._jobs, self._started
        self._jobs, self._started = SimpleQueue(), 0
        for _ in range(started):
            jobs.put(None)

    def _work(self, jobs: "SimpleQueue[_Job | None]") -> None:
        while (job := jobs.get()) is not None:
            result, error = None, None
            if not job.future.cancelled():
                try:
                    result = job.context.run(job.call)
                except BaseException as raised:  # noqa: BLE001  whatever it is, it is theirs who asked
                    error = raised
            # A loop that is over has nobody who waits.
            with suppress(RuntimeError):
                job.loop.call_soon_threadsafe(self._told, job.future, result, error)
            # A thread that waits for its next job must not keep the last one's documents.
            del job, result, error

    def _told(self, future: "asyncio.Future[ResultT]", result: ResultT, error: BaseException | None) -> None:
        self._under_way -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
