"""Several workers on one port: the parent that starts them, watches them, replaces them and ends with them.

True here: a worker that ends or falls silent is replaced, ever more slowly when it does so again and again; a successor
listens before the worker it follows stops to; what cannot start at all is said once. Never here: a database, a key, a
request. The parent only holds the ports, so there is little that could bring it down.
"""

import asyncio
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from service.config import Config
from service.places import Place
from service.worker_channel import BEAT_SECONDS, ParentSide

# A loop that has not turned for so many beats is not going to.
_MOST_SILENT: Final = 30
# What a stop takes besides notice and drain: the relay, the admin port, the interpreter.
_ENDING_SECONDS: Final = 9.0
_SUCCESSOR_SECONDS: Final = 60.0
# Who ends sooner than this is started again a little later each time.
_SETTLED_SECONDS: Final = 10.0
_FIRST_REST: Final = 0.5
_LONGEST_REST: Final = 10.0
# After so many starts in a row that came to nothing, while nobody listens, somebody has to look.
_MOST_VAIN: Final = 6

_log = structlog.get_logger("workers")


class WorkersError(Exception):
    """There is no worker and there will be none. The text says why; it is empty when a worker has said so itself."""


class _Worker:
    """One process."""

    def __init__(self, process: Process, side: ParentSide) -> None:
        loop = asyncio.get_running_loop()
        self._process = process
        self._born = time.monotonic()
        self._ended = loop.create_task(process.wait())
        self._listens = loop.create_task(side.listens.wait())
        self.side = side

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int:
        """How it ended: what it exited with, or minus the signal."""
        return self._ended.result()

    @property
    def listens(self) -> bool:
        return self.side.listens.is_set() and not self._ended.done()

    @property
    def age(self) -> float:
        return time.monotonic() - self._born

    async def up(self, seconds: float | None) -> bool:
        """Whether it listens, as soon as that is known."""
        await asyncio.wait({self._listens, self._ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self.listens

    async def over(self, seconds: float | None) -> bool:
        """Whether it ended within a time."""
        await asyncio.wait({self._ended}, timeout=seconds)
        return self._ended.done()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def close(self) -> None:
        """After its end: what this process kept for it."""
        self._listens.cancel()
        await self.side.close()


@dataclass(slots=True)
class _Post:
    """A place and who has it. `hasty`: how many in a row ended soon after their start. `lock`: one start at a time."""

    place: Place
    worker: _Worker | None = None
    hasty: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Workers:
    """A parent's workers, one for each place."""

    def __init__(self, config: Config, places: Sequence[Place], arguments: Sequence[str]) -> None:
        """`arguments` make this program a worker; the numbers of its public, admin and channel sockets follow them."""
        self._drain_seconds = config.drain_seconds + _ENDING_SECONDS
        self._stop_seconds = config.notice_seconds + self._drain_seconds
        self._arguments = arguments
        self._posts = [_Post(place) for place in places]
        self._living: set[_Worker] = set()
        self._group = asyncio.TaskGroup()
        self._vain = 0

    async def run(self, announce: Callable[[], None]) -> None:
        """Until told to stop. `announce` is called when they listen. Raises WorkersError when there are none to be had."""
        loop = asyncio.get_running_loop()
        stop, renew = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, renew.set)
        told, led = loop.create_task(stop.wait()), loop.create_task(self._lead(announce, renew))
        await asyncio.wait({told, led}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        led.cancel()
        outcome, _ = await asyncio.gather(led, told, return_exceptions=True)
        # When the last worker stops to listen, whoever comes shall be refused and not wait for the parent's end.
        for post in self._posts:
            post.place.close()
        await self._end_all()
        if isinstance(outcome, Exception):
            raise outcome

    async def _lead(self, announce: Callable[[], None], renew: asyncio.Event) -> None:
        try:
            async with self._group:
                self._group.create_task(self._listen_to_beats())
                await self._start_all()
                announce()
                while await renew.wait():
                    renew.clear()
                    await self._replace_all()
        except* WorkersError as errors:
            raise errors.exceptions[0] from None

    async def _start_all(self) -> None:
        """One alone at first: what it cannot start for, none can, and one voice is enough to say it."""
        try:
            first = await self._start(self._posts[0])
            if not await first.up(None):
                raise WorkersError("" if first.status == 1 else f"a worker ended with {first.status} before it listened")
            self._appoint(self._posts[0], first)
            for post in self._posts[1:]:
                self._appoint(post, await self._start(post))
        except OSError as error:
            raise WorkersError(f"a worker cannot be started: {error.strerror}") from None
        for worker in list(self._living):
            await worker.up(None)

    async def _start(self, post: _Post, *arguments: str) -> _Worker:
        """Start a worker for a place. Raises OSError when the system has no room for one."""
        ours, theirs = socket.socketpair()
        given = [descriptor.fileno() for descriptor in (post.place.public, post.place.admin, theirs)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                *(str(descriptor) for descriptor in given),
                *arguments,
                pass_fds=given,
                stdin=DEVNULL,
                # Ctrl-C and the end of a terminal are the parent's to hear.
                start_new_session=True,
            )
        except BaseException:
            # Should there be a process after all, it ends with its channel.
            ours.close()
            raise
        finally:
            theirs.close()
        worker = _Worker(process, ParentSide(ours))
        self._living.add(worker)
        return worker

    def _appoint(self, post: _Post, worker: _Worker) -> None:
        post.worker = worker
        self._group.create_task(self._keep(post, worker))

    async def _keep(self, post: _Post, worker: _Worker) -> None:
        """Wait for the end of a worker, and have another in its place unless there is one."""
        await worker.over(None)
        await self._forget(worker)
        if post.worker is not worker:
            _log.info("worker_left", worker=post.place.number, pid=worker.pid, status=worker.status)
            return
        _log.error("worker_ended", worker=post.place.number, pid=worker.pid, status=worker.status)
        self._vain = 0 if worker.side.listens.is_set() else self._vain + 1
        if self._vain >= _MOST_VAIN and not any(other.listens for other in self._living):
            raise WorkersError("no worker comes up any more")
        post.hasty = post.hasty + 1 if worker.age < _SETTLED_SECONDS else 0
        if post.hasty > 1:
            # Nobody is there for a while, so whoever comes to this place would wait for nothing.
            with suppress(OSError):
                post.place.renew()
            await asyncio.sleep(min(_FIRST_REST * 2 ** (post.hasty - 2), _LONGEST_REST))
        async with post.lock:
            while post.worker is worker:
                try:
                    self._appoint(post, await self._start(post))
                except OSError:
                    _log.error("worker_not_started", worker=post.place.number)
                    await asyncio.sleep(_LONGEST_REST)

    async def _replace_all(self) -> None:
        """One after the other, and none before its successor listens. The first that does not ends it."""
        for post in self._posts:
            async with post.lock:
                if not await self._replace(post):
                    _log.error("worker_not_replaced", worker=post.place.number)
                    return
        _log.info("workers_replaced")

    async def _replace(self, post: _Post) -> bool:
        try:
            successor = await self._start(post, "--successor")
        except OSError:
            return False
        if not await successor.up(_SUCCESSOR_SECONDS):
            successor.signal(signal.SIGKILL)
            await successor.over(None)
            await self._forget(successor)
            return False
        old = post.worker
        self._appoint(post, successor)
        post.hasty = 0
        if old is not None:
            old.side.tell_to_leave()
            self._group.create_task(self._see_off(old))
        return True

    async def _see_off(self, worker: _Worker) -> None:
        if not await worker.over(self._drain_seconds):
            worker.signal(signal.SIGKILL)

    async def _listen_to_beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for worker in self._living:
                if worker.side.tick() > _MOST_SILENT:
                    _log.error("worker_silent", pid=worker.pid)
                    worker.signal(signal.SIGKILL)

    async def _forget(self, worker: _Worker) -> None:
        self._living.discard(worker)
        await worker.close()

    async def _end_all(self) -> None:
        """Pass the stop on, and wait as long as a stop may take."""
        for worker in self._living:
            worker.signal(signal.SIGTERM)
        await asyncio.gather(*(self._end(worker) for worker in list(self._living)))

    async def _end(self, worker: _Worker) -> None:
        if not await worker.over(self._stop_seconds):
            _log.error("worker_did_not_stop", pid=worker.pid)
            worker.signal(signal.SIGKILL)
            await worker.over(None)
        await self._forget(worker)
