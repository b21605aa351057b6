import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from api.client import Api
from conftest import free_port
from faults.workers import ROOT, Worker, answers, environment, worker

from service.config import Config
from service.worker_channel import ParentSide, WorkerSide

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over several workers")


def _environment(config: Config, **changes: str) -> dict[str, str]:
    # The start of one worker slows the others down on a small machine.
    return environment(config, **{"YIKA_WORKERS": "2", "YIKA_REQUEST_SECONDS": "30"} | changes)


@pytest.fixture(scope="module")
async def group(served: object, config: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A parent with two workers, on a database with its people."""
    del served
    async with worker(_environment(config), tmp_path_factory.mktemp("group") / "log") as made:
        yield made


@pytest.fixture
async def token(group: Worker) -> str:
    async with Api(group.url) as api:
        await api.post("/sandbox/reset")
        await asyncio.sleep(0.6)
        return str((await api.tokens("active", "face"))["accessToken"])


def _children(pid: int) -> set[int]:
    with suppress(FileNotFoundError):
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


def _alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


async def _two_new(group: Worker, old: set[int], seconds: float = 40) -> set[int]:
    """The workers once there are two and none of some others."""
    async with asyncio.timeout(seconds):
        while len(now := _children(group.process.pid)) != 2 or now & old:
            await asyncio.sleep(0.05)
    return now


async def _logged(group: Worker, event: str, times: int = 1) -> None:
    async with asyncio.timeout(40):
        while group.log.read_text().count(f'"{event}"') < times:
            await asyncio.sleep(0.05)


async def _counted(group: Worker) -> list[float]:
    """How many answers each worker has given for /livez."""
    counts = []
    async with aiohttp.ClientSession() as session:
        for url in group.admin_urls:
            async with session.get(f"{url}/metrics") as response:
                lines = [line for line in (await response.text()).splitlines() if 'route="/livez"' in line]
            counts.append(sum(float(line.split()[-1]) for line in lines if line.startswith("yika_requests_total")))
    return counts


class _Load:
    """Clients that keep their connections, and as many that make a new one for each request.

    `kept` and `fresh` are how many each; `failed` says what was not answered with 200; `longest` is in seconds.
    """

    def __init__(self, url: str, token: str, *, kept: int = 8, fresh: int = 8) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._clients = [*[False] * kept, *[True] * fresh]
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: Counter[str] = Counter()
        self.refused = 0
        self.served = 0
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask(fresh=fresh)) for fresh in self._clients]
        await asyncio.sleep(0.5)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        async with asyncio.timeout(40):
            await asyncio.gather(*self._tasks)

    async def _count(self, response: aiohttp.ClientResponse) -> None:
        await response.read()
        self.served += 1
        if response.status != 200:
            self.failed[str(response.status)] += 1

    async def _ask(self, *, fresh: bool) -> None:
        async with aiohttp.ClientSession(
            headers=self._headers, connector=aiohttp.TCPConnector(force_close=fresh), timeout=aiohttp.ClientTimeout(30)
        ) as session:
            while not self._over.is_set():
                begun = time.monotonic()
                try:
                    async with session.get(f"{self._url}/v1/sessions") as response:
                        await self._count(response)
                    # The client repeats a GET whose connection broke, and tells nobody; a POST it does not.
                    async with session.post(f"{self._url}/v1/receipts/verify", json={"receipt": "none"}) as response:
                        await self._count(response)
                except aiohttp.ClientConnectorError:
                    self.refused += 1
                    await asyncio.sleep(0.02)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failed[type(error).__name__] += 1
                self.longest = max(self.longest, time.monotonic() - begun)


async def test_two_workers_share_a_port_and_each_counts_its_own(group: Worker) -> None:
    before = await _counted(group)
    for _ in range(64):
        assert await answers(group.url, "/livez") == 200
    answered = [after - earlier for earlier, after in zip(before, await _counted(group), strict=True)]
    assert sum(answered) == 64
    # A fair coin leaves one side with fewer than this once in a hundred million runs.
    assert min(answered) >= 10


async def test_a_worker_that_is_killed_is_replaced_and_the_port_never_refuses(group: Worker, token: str) -> None:
    old = _children(group.process.pid)
    for times, doomed in enumerate(old, start=1):
        survivors = _children(group.process.pid) - {doomed}
        async with _Load(group.url, token) as load:
            os.kill(doomed, signal.SIGKILL)
            await _logged(group, "worker_ended", times)
            async with asyncio.timeout(20):
                while len(_children(group.process.pid)) < 2:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(3)
        # Only what the killed one was doing at that moment is lost: one request a client at most.
        assert sum(load.failed.values()) <= 16
        assert set(load.failed) <= {"ServerDisconnectedError", "ClientOSError", "ClientPayloadError"}
        assert load.refused == 0
        assert load.longest < 15
        assert survivors <= _children(group.process.pid)
    assert not old & _children(group.process.pid)
    # A replacement listens before it is ready, and may take a while on a busy machine.
    async with asyncio.timeout(20):
        while [await answers(url, "/readyz") for url in group.admin_urls] != [200, 200]:
            await asyncio.sleep(0.1)


async def test_a_hangup_replaces_both_workers_without_a_failed_request(group: Worker, token: str) -> None:
    for _ in range(2):
        old = _children(group.process.pid)
        async with _Load(group.url, token) as load:
            group.signal(signal.SIGHUP)
            await _two_new(group, old)
            await asyncio.sleep(0.3)
        assert load.served > 50
        assert (load.failed, load.refused) == (Counter(), 0)


async def test_a_successor_that_cannot_serve_replaces_nobody(group: Worker, token: str, config: Config) -> None:
    old = _children(group.process.pid)
    aside = config.keyring_path.with_suffix(".aside")
    config.keyring_path.rename(aside)
    try:
        async with _Load(group.url, token) as load:
            group.signal(signal.SIGHUP)
            await _logged(group, "worker_not_replaced")
    finally:
        aside.rename(config.keyring_path)
    assert _children(group.process.pid) == old
    assert (load.failed, load.refused) == (Counter(), 0)


async def test_a_stop_of_all_under_load_fails_no_request(config: Config, token: str, tmp_path: Path) -> None:
    async with worker(_environment(config, YIKA_NOTICE_SECONDS="0.3"), tmp_path / "log") as stopping:
        children = _children(stopping.process.pid)
        async with _Load(stopping.url, token) as load:
            stopping.signal(signal.SIGTERM)
            begun = time.monotonic()
            assert await stopping.end() == 0
            assert time.monotonic() - begun < 30
        assert load.served > 50
        assert load.failed == Counter()
        assert load.refused > 0
        assert not any(_alive(child) for child in children)
        assert "worker_ended" not in stopping.log.read_text()


async def test_a_parent_that_is_killed_leaves_nothing_behind(config: Config, tmp_path: Path) -> None:
    async with worker(_environment(config), tmp_path / "log") as doomed:
        children = _children(doomed.process.pid)
        assert len(children) == 2
        await doomed.end(signal.SIGKILL)
        async with asyncio.timeout(20):
            while any(_alive(child) for child in children):
                await asyncio.sleep(0.05)
        assert [await answers(url, "/livez") for url in (doomed.url, *doomed.admin_urls)] == [0, 0, 0]


async def test_when_no_worker_comes_up_any_more_the_parent_ends_and_says_so(config: Config, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.json"
    keyring.write_bytes(config.keyring_path.read_bytes())
    keyring.chmod(0o600)
    async with worker(_environment(config, YIKA_KEYRING=str(keyring)), tmp_path / "log") as hopeless:
        keyring.unlink()
        for child in _children(hopeless.process.pid):
            os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(60):
            assert await hopeless.process.wait() == 1
        assert "no worker comes up any more" in hopeless.log.read_text()


def _serve(config: Config, **changes: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")} | _environment(config, **changes)
    command = [sys.executable, "-m", "service", "serve"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"YIKA_WORKERS": "0"}, "YIKA_WORKERS"),
        ({"YIKA_PORT": "65000", "YIKA_ADMIN_PORT": "65535"}, "too few ports"),
        ({"YIKA_HOST": "no-such-host.invalid"}, "YIKA_HOST"),
        # The parent knows nothing of keys: the first worker says this.
        ({"YIKA_KEYRING": "/nowhere/keyring.json"}, "no keyring"),
        ({"YIKA_MONGODB_URI": "http://nonsense"}, "YIKA_MONGODB_URI"),
    ],
)
def test_what_cannot_start_is_said_once(config: Config, changes: dict[str, str], words: str) -> None:
    done = _serve(config, **{"YIKA_PORT": str(free_port())} | changes)
    assert done.returncode == 1
    assert done.stderr.count("yika:") == 1
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("which", ["YIKA_PORT", "YIKA_ADMIN_PORT"])
def test_a_port_that_is_taken_is_said_once_also_when_its_owner_would_share_it(
    config: Config, which: str, *, shared: bool
) -> None:
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = _serve(config, **{"YIKA_PORT": str(free_port()), which: str(port)})
    assert done.returncode == 1
    assert done.stderr.count("yika:") == 1
    assert f"port {port} on 127.0.0.1" in done.stderr.replace("\n", " ")


async def test_a_channel_tells_when_the_other_side_is_silent_or_gone() -> None:
    ours, theirs = socket.socketpair()
    parent, side = ParentSide(ours), WorkerSide(theirs)
    assert [parent.tick() for _ in range(3)] == [1, 2, 3]
    async with side:
        await asyncio.sleep(0.1)
        assert parent.tick() == 1
        assert not parent.listens.is_set()
        side.tell_listening()
        parent.tell_to_leave()
        async with asyncio.timeout(5):
            await parent.listens.wait()
            await side.over()
        assert side.leave.is_set()
        assert not side.stop.is_set()
        await parent.close()
        async with asyncio.timeout(5):
            await side.stop.wait()
