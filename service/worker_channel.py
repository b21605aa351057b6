"""What a worker and its parent tell each other, over a pair of sockets that lives as long as both do.

True here: a worker says when it listens, and that it is alive, every second; a parent says when the worker is replaced. The
end of the channel is the end of the other side, also when that was killed, so no worker outlives its parent. A parent may be
older than the worker it starts, after an upgrade: what is said here changes only by addition.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final, Self

BEAT_SECONDS: Final = 1.0

_BEAT: Final = b"."
_LISTENS: Final = b"L"
_LEAVE: Final = b"X"


class ParentSide:
    """The parent's end."""

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(0)
        self._channel = channel
        self._silent = 0
        self._ears = asyncio.get_running_loop().create_task(self._hear(), name="worker-channel")
        self.listens = asyncio.Event()

    def tick(self) -> int:
        """Called every BEAT_SECONDS: how many calls ago the worker was last heard.

        Counted in calls and not on a clock: after a halt of the whole machine nobody is thought dead.
        """
        self._silent += 1
        return self._silent

    def tell_to_leave(self) -> None:
        """Another worker listens in its place."""
        with suppress(OSError):
            self._channel.send(_LEAVE)

    async def close(self) -> None:
        """Raises nothing, whatever became of the worker."""
        self._ears.cancel()
        await asyncio.gather(self._ears, return_exceptions=True)
        self._channel.close()

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while words := await loop.sock_recv(self._channel, 4096):
                self._silent = 0
                if _LISTENS in words:
                    self.listens.set()


class WorkerSide:
    """The worker's end, as an async context manager. `stop` and `leave` are set when it shall; signals may set them too."""

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(0)
        self._channel = channel
        self._tasks: list[asyncio.Task[None]] = []
        self.stop = asyncio.Event()
        self.leave = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._hear(), name="parent-ears"), loop.create_task(self._beat(), name="parent-beat")]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._channel.close()

    def tell_listening(self) -> None:
        """This worker takes connections."""
        self._tell(_LISTENS)

    async def over(self) -> None:
        """Return when this worker shall stop or leave."""
        waits = [asyncio.get_running_loop().create_task(event.wait()) for event in (self.stop, self.leave)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _tell(self, word: bytes) -> None:
        # A parent that is gone is heard of in _hear; one that does not read for days is not waited for.
        with suppress(OSError):
            self._channel.send(word)

    async def _beat(self) -> None:
        while True:
            self._tell(_BEAT)
            await asyncio.sleep(BEAT_SECONDS)

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while words := await loop.sock_recv(self._channel, 64):
                if _LEAVE in words:
                    self.leave.set()
        self.stop.set()
