"""The machine: which core does what, what it is, and which versions ran.

True here: the server under test has a core of its own wherever there are two. Never here: a host name, a path or an
address; results are published.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import orjson

ROOT: Final = Path(__file__).resolve().parents[1]
WORK: Final = ROOT / ".bench"
FASTAPI_PYTHON: Final = WORK / "fastapi" / "bin" / "python"
GO_PEER: Final = WORK / "go-peer"
FASTIFY: Final = ROOT / "bench" / "peers" / "fastify"
_GO_PACKAGES: Final = ("golang-mongodb-mongo-driver-dev", "golang-github-golang-jwt-jwt-dev")
_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Cores:
    """Numbers of the cores of the server under test, of the database, and of the load; and of all that are there."""

    server: int
    database: int
    load: int
    there: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        """Those that a run uses, each once."""
        return frozenset((self.server, self.database, self.load))

    @property
    def words(self) -> str:
        """For people."""
        if self.server == self.load:
            return "one core for everything: the ratios are worth little"
        if self.database == self.load:
            return "one core for the server, one for load and database"
        return "one core each for the server, the database and the load"


def choose_cores() -> Cores:
    """Cores of their own: physical ones first, and hardware threads of one core only where there are no others."""
    allowed = sorted(os.sched_getaffinity(0))
    physical: dict[str, int] = {}
    for number in allowed:
        physical.setdefault(_siblings(number), number)
    first = list(physical.values())
    numbers = first + [number for number in allowed if number not in first]
    match numbers:
        case [only]:
            return Cores(only, only, only, frozenset(allowed))
        case [server, load]:
            return Cores(server, load, load, frozenset(allowed))
        case [server, database, load, *_]:
            # Three hardware threads on two cores: the third would share with the server.
            load = load if len(first) > 2 else database  # noqa: PLR2004  server, database, load
            return Cores(server, database, load, frozenset(allowed))
    raise AssertionError("a process always has a core")


def _siblings(number: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """This thread, and every process it starts meanwhile, on some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe(cores: Cores, database: str) -> dict[str, object]:
    """The machine and the versions, for the results."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(cores.there),
        "cores_used": cores.words,
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "kernel": platform.release(),
        "system": _system(),
        "database": database,
        "versions": {
            "python": platform.python_version(),
            "node": _said("node", "--version").removeprefix("v"),
            "go": _said("go", "env", "GOVERSION").removeprefix("go"),
            "wrk": (re.search(r"wrk (\S+)", _said("wrk", "--version")) or ["", ""])[1],
        },
        "libraries": {
            "yika": {name: metadata.version(name) for name in ("aiohttp", "motor", "pymongo", "pydantic", "pyjwt", "uvloop")},
            "fastapi": _fastapi_versions(),
            "fastify": {name: _node_version(name) for name in ("fastify", "fast-jwt", "mongodb")},
            "go": {name: _said("dpkg-query", "--show", "--showformat=${Version}", name) for name in _GO_PACKAGES},
        },
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return sys.platform


def _said(*command: str) -> str:
    """What a program says about itself; nothing when it cannot run."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603  ours
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (answer.stdout or answer.stderr).strip()


def _fastapi_versions() -> Mapping[str, str]:
    names = ("fastapi", "uvicorn", "uvloop", "httptools", "motor", "pymongo", "pyjwt", "pydantic")
    ask = f"from importlib.metadata import version\nimport json\nprint(json.dumps({{n: version(n) for n in {names!r}}}))"
    said: dict[str, str] = orjson.loads(_said(str(FASTAPI_PYTHON), "-I", "-c", ask) or "{}")
    return said


def _node_version(name: str) -> str:
    try:
        return str(orjson.loads((FASTIFY / "node_modules" / name / "package.json").read_bytes())["version"])
    except OSError:
        return ""
