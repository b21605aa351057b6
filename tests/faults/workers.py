"""Real processes of the service, and a wire to the database that can be cut."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from typing import Self

import aiohttp

from service.config import Config

ROOT = Path(__file__).parents[2]


class Worker:
    """One `python -m service serve`. `log` is what it wrote to standard error, whole once it ended.

    `admin_urls` are several when YIKA_WORKERS is more than one.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str, admin_urls: list[str], log: Path) -> None:
        self.process = process
        self.url = url
        self.admin_url, *_ = self.admin_urls = admin_urls
        self.log = log

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def end(self, number: int = SIGTERM) -> int:
        """Signal it and wait until it is gone; its exit status."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
        async with asyncio.timeout(40):
            return await self.process.wait()


def environment(config: Config, **changes: str) -> dict[str, str]:
    """What a process must be told to stand beside the application of the tests."""
    return {
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": config.mongodb_database,
        "YIKA_DATA_DIR": str(config.data_dir),
        "YIKA_LOG_LEVEL": "info",
    } | changes


@asynccontextmanager
async def worker(told: Mapping[str, str], log: Path, *, ready: bool = True) -> AsyncIterator[Worker]:
    """A worker that listens on free ports of its own, and is ready unless that is not asked for; ended on the way out."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
    env |= {"YIKA_PORT": "0", "YIKA_ADMIN_PORT": "0", "YIKA_NOTICE_SECONDS": "0"} | dict(told)
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", "serve", cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                words = (await process.stdout.readline()).decode().replace(",", "").split()
            assert words[:2] == ["yika", "serves"], log.read_text()
            made = Worker(process, words[2], words[4:], log)
            async with asyncio.timeout(20):
                while ready and await answers(made.url, "/readyz") != 200:
                    await asyncio.sleep(0.05)
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def carrier(told: Mapping[str, str], log: Path) -> AsyncIterator[Worker]:
    """A `python -m service worker` that is ready; it has no public port, so its `url` is that of its admin port."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
    env |= {"YIKA_ADMIN_PORT": "0"} | dict(told)
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", "worker", cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                words = (await process.stdout.readline()).decode().replace(",", "").split()
                assert words[:2] == ["yika", "carries"], log.read_text()
                while await answers(words[3], "/readyz") != 200:
                    await asyncio.sleep(0.05)
            yield Worker(process, words[3], [words[3]], log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


class Wire:
    """A TCP wire to the database. `cut` stops everything, `mend` lets new connections through.

    `stall` keeps every connection open and carries nothing until `flow`.
    `lose_answer_to` passes on what the client says, and closes before the answer comes back; `stall_after` stalls then.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._whole = True
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._marker = b""
        self._last = b""
        self._stalled = asyncio.Event()
        self.lost = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self.flow()
        assert self._server is not None
        self._server.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        self._whole = False
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def mend(self) -> None:
        self._whole = True

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def lose_answer_to(self, marker: bytes) -> None:
        """Close the connection on which the next request with these bytes is sent, once the database has it."""
        self._marker = marker

    def stall_after(self, marker: bytes) -> None:
        """Stall as soon as the database has the next request with these bytes: nobody hears what became of it."""
        self._last = marker

    async def stalled(self) -> None:
        """Return once that request came."""
        async with asyncio.timeout(20):
            await self._stalled.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: C901  both ways of one wire
        if not self._whole:
            writer.close()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, there_writer}
        gone = asyncio.Event()

        async def up() -> None:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                there_writer.write(data)
                await there_writer.drain()
                if self._last and self._last in data:
                    self._last = b""
                    # In the same turn of the loop: not even a moment is left in which somebody could be answered.
                    self.stall()
                    self._stalled.set()
                if self._marker and self._marker in data:
                    self._marker = b""
                    self.lost += 1
                    # The database answers within this time; the answer is what is lost.
                    gone.set()
                    await asyncio.sleep(0.3)
                    return

        async def down() -> None:
            while data := await there_reader.read(65_536):
                await self._flowing.wait()
                if gone.is_set():
                    continue
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(up()), asyncio.create_task(down())]
        with suppress(OSError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for side in (writer, there_writer):
            side.close()
            self._writers.discard(side)


async def answers(url: str, path: str) -> int:
    """The status of a GET, 0 when nobody answers."""
    timeout = aiohttp.ClientTimeout(15)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url + path) as response:
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0
