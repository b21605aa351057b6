"""Workers by the dozen: each is `python -m service worker`, forked off a process that has imported everything already.

A fork spares what an import costs and nothing else: each puts itself together, opens its own connections and is killed like
any process. For each line on standard input, which names a file, one is started; its process id is the line of the answer, and
what it says goes into that file. They end with the end of the input.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from faults.workers import ROOT

CARRIES = "yika carries"


class Chick:
    """A worker of the brood. `log` is what it says."""

    def __init__(self, pid: int, log: Path) -> None:
        self._pid = pid
        self.log = log

    def kill(self) -> None:
        """SIGKILL: it hears nothing of it."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    async def carries(self) -> None:
        """Return when it is put together and carries."""
        async with asyncio.timeout(60):
            while CARRIES not in self.log.read_text():
                await asyncio.sleep(0.02)


class Brood:
    """Starts workers with one environment."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._one_at_a_time = asyncio.Lock()
        self.hatched: list[Chick] = []

    async def hatch(self) -> Chick:
        """Start one more."""
        log = self._folder / f"{len(self.hatched)}.log"
        log.touch()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._one_at_a_time, asyncio.timeout(60):
            self._process.stdin.write(f"{log}\n".encode())
            chick = Chick(int(await self._process.stdout.readline()), log)
        self.hatched.append(chick)
        return chick


@asynccontextmanager
async def brood(told: Mapping[str, str], folder: Path) -> AsyncIterator[Brood]:
    """A brood whose workers are told these settings; none of them outlives it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
    env |= {"YIKA_ADMIN_PORT": "0", "YIKA_PORT": "0", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"} | dict(told)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faults.brood"),
        cwd=ROOT,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Brood(process, folder)
    try:
        yield made
    finally:
        for chick in made.hatched:
            chick.kill()
        if process.returncode is None:
            process.kill()
        await process.wait()


def _sit() -> None:
    # The test that starts this has no use for them.
    import service.relay_commands  # noqa: F401, PLC0415  what `worker` loads when it is asked for: once here, and not in each
    from service.__main__ import command  # noqa: PLC0415  as above

    # The system forgets them by itself, so that none has to be waited for; a killed one leaves no process behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(line.strip(), os.O_WRONLY | os.O_APPEND)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            command(["worker"])
        print(pid, flush=True)  # noqa: T201  the test reads it


if __name__ == "__main__":
    _sit()
