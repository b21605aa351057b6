"""Load from wrk, and what it cost whom.

True here: a run in which one answer was not good is no run. Latencies are wrk's, in microseconds; processor time is the
kernel's, from /proc. Never here: a number that was not measured.
"""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from bench.ground import Ground
from bench.programs import busy_seconds, cpu_seconds_of, found, run_to_end, tail
from bench.servers import Served

_GRACE_SECONDS: Final = 30.0
# wrk calls an answer late after this; as long as Yika gives a request.
_TIMEOUT: Final = "10s"


class InvalidRunError(Exception):
    """Something was not as it must be for the numbers to mean anything. The text says what."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk gave. Latencies and CPU a request in µs; shares of a core from 0 to 1.

    `others_share`: how much of the cores in use went to programs that are none of the bench's. `lacking`: requests that a
    script had to repeat because it had no more.
    """

    connections: int
    seconds: float
    requests: int
    rate: float
    p50: float
    p90: float
    p99: float
    longest: float
    cpu_per_request: float
    server_share: float
    load_share: float
    database_share: float
    others_share: float
    lacking: int


def run_wrk(  # noqa: PLR0913  a run is all of these
    where: Ground, served: Served, script: Path, arguments: Sequence[str], *, connections: int, seconds: float
) -> Load:
    """Run wrk in one thread against a server. Raises InvalidRunError when an answer failed."""
    much = ["--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"]
    command = [found("wrk"), *much, "--timeout", _TIMEOUT, "--script", str(script), served.url, "--", *arguments]
    before = _used(where, served)
    said = run_to_end(command, {where.cores.load}, {}, seconds + _GRACE_SECONDS).decode()
    used = {name: after - before[name] for name, after in _used(where, served).items()}
    told = _told(said)
    failed = {kind: round(told[kind]) for kind in ("broken", "refused", "late") if told[kind]}
    if failed or not told["requests"]:
        why = ", ".join(f"{count} {kind}" for kind, count in failed.items()) or "nothing answered"
        what = f"{served.server.name} at {connections} connections"
        raise InvalidRunError(f"{what}: {why}, of {told['requests']:.0f} requests\n{tail(served.running.log)}")
    elapsed = told["seconds"]
    return Load(
        connections=connections,
        seconds=elapsed,
        requests=int(told["requests"]),
        rate=told["requests"] / elapsed,
        p50=told["p50"],
        p90=told["p90"],
        p99=told["p99"],
        longest=told["max"],
        cpu_per_request=used["server"] / told["requests"] * 1e6,
        server_share=used["server"] / elapsed,
        load_share=used["load"] / elapsed,
        database_share=used["database"] / elapsed,
        others_share=max(0.0, used["cores"] - used["server"] - used["load"] - used["database"]) / elapsed,
        lacking=int(told.get("lacking", 0)),
    )


def _used(where: Ground, served: Served) -> dict[str, float]:
    """Processor seconds so far of server, database and load, and of everything that ran on their cores."""
    return {
        "server": served.running.cpu_seconds(),
        "database": cpu_seconds_of(where.mongod),
        "load": _children_seconds(),
        "cores": busy_seconds(where.cores.all),
    }


def _children_seconds() -> float:
    """Processor time of all children that have ended; during a run of wrk that is wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _told(said: str) -> dict[str, float]:
    for line in said.splitlines():
        if line.startswith("bench "):
            told: dict[str, float] = orjson.loads(line.removeprefix("bench "))
            return told
    raise InvalidRunError(f"wrk said nothing that the bench understands: {said}")
