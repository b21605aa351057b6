"""Programs that the bench starts: on a core, tied to the bench, and ended by their process id.

True here: what was started is ended, whatever happens: on the way out by a signal to its own id, and by the kernel when
the bench itself is killed. Never here: a signal to anything that the bench did not start.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from bench.machine import ROOT, pinned

_STOP_SECONDS: Final = 15.0
_START_SECONDS: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 2**20
# Fields of /proc/<pid>/stat behind the name: time in user mode, time in the kernel, resident pages.
_USER, _SYSTEM, _RESIDENT = 11, 12, 21


class ProgramError(Exception):
    """A program did not do what it was started for. The text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Running:
    """A program that runs."""

    pid: int
    log: Path
    started: float
    """`time.perf_counter()` just before it was started."""

    def cpu_seconds(self) -> float:
        """Processor time of all its processes and threads so far, in steps of a hundredth of a second."""
        return sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in map(_stat, family(self.pid))) / _TICKS

    def resident_mib(self) -> float:
        """Resident memory of all its processes, in MiB."""
        return sum(int(stat[_RESIDENT]) for stat in map(_stat, family(self.pid))) * _PAGE / _MIB


def _stat(pid: int) -> Sequence[str]:
    # The name stands in parentheses and may hold spaces.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_seconds_of(pid: int) -> float:
    """Processor time of a process alone."""
    stat = _stat(pid)
    return (int(stat[_USER]) + int(stat[_SYSTEM])) / _TICKS


def busy_seconds(cores: Collection[int]) -> float:
    """Processor time that was used on some cores so far, by whomever, and that a host took away from them."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.removeprefix("cpu").isdigit() and int(name.removeprefix("cpu")) in cores:
            # Interrupts are nobody's: most of them carry the load itself.
            user, nice, system, _idle, _iowait, _irq, _softirq, steal, *_ = map(int, ticks)
            total += user + nice + system + steal
    return total / _TICKS


@contextmanager
def program(command: Sequence[str], cores: Collection[int], log: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """Run a program on some cores until the end of the block."""
    started, process = start(command, cores, log, environment)
    try:
        yield Running(process.pid, log, started)
        if process.poll() is not None:
            raise ProgramError(f"{_name(command)} ended with status {process.returncode}\n{tail(log)}")
    finally:
        end(process)


def start(
    command: Sequence[str], cores: Collection[int], log: Path, environment: Mapping[str, str]
) -> tuple[float, "subprocess.Popen[bytes]"]:
    """Start a program on some cores, tied to this process; when, and the process. `end` ends it."""
    with log.open("ab") as output, pinned(cores):
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  our own command, no shell
            _tied(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=_environment(environment),
            # Ctrl-C is the bench's to hear; it ends them in order.
            start_new_session=True,
        )
    return started, process


def run_to_end(command: Sequence[str], cores: Collection[int], environment: Mapping[str, str], seconds: float) -> bytes:
    """What a program that ends by itself wrote to standard output. Raises ProgramError when it fails or takes longer."""
    with pinned(cores):
        process = subprocess.Popen(  # noqa: S603  our own command, no shell
            _tied(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=_environment(environment),
            start_new_session=True,
        )
    try:
        said, complaints = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{_name(command)} did not end in {seconds:.0f} s") from None
    finally:
        if process.poll() is None:
            end(process)
    if process.returncode != 0:
        raise ProgramError(f"{_name(command)} failed: {(complaints or said).decode(errors='replace')[-2000:]}")
    return said


def _name(command: Sequence[str]) -> str:
    return " ".join((Path(command[0]).name, *command[1:4]))


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Ours, without settings of Yika or Python that somebody may have here, and with what a program is told."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("YIKA_", "PYTHON"))} | dict(own)


def _tied(command: Sequence[str]) -> list[str]:
    """A command that ends with this process."""
    return [sys.executable, "-I", "-S", str(ROOT / "deploy" / "local" / "with_parent.py"), *command]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a program, by force after some seconds."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def found(name: str) -> str:
    """Where a program is. Raises ProgramError."""
    path = shutil.which(name)
    if path is None:
        raise ProgramError(f"{name} is missing: `make bench` installs what the bench needs")
    return path


def tail(log: Path) -> str:
    """The last lines that a program wrote."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_answer(running: Running, port: int, path: str, *, status: int | None, pause: float = 0.02) -> float:
    """Wait until an HTTP server answers, with this status or with any; seconds since the program was started.

    Raises ProgramError when it ends, or takes half a minute.
    """
    while time.perf_counter() < running.started + _START_SECONDS:
        answered = _status(port, path)
        if answered and status in {None, answered}:
            return time.perf_counter() - running.started
        if is_over(running.pid):
            raise ProgramError(f"it ended while starting\n{tail(running.log)}")
        time.sleep(pause)
    raise ProgramError(f"it does not answer {path}\n{tail(running.log)}")


def _status(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def is_over(pid: int) -> bool:
    """Whether a program that we started has ended."""
    # A child that ended stays as a zombie until it is waited for.
    return _stat(pid)[0] == "Z"
