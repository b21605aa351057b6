"""The balance look-up, whole path: rounds in which every server has its turn under the same load.

True here: before the first round every server has shown that it does the same work; in a round all ask with the same tokens
and in the same order of people; the server that begins is another one every round. Every turn is a fresh start and the same
short warm-up for everybody, peers and Yika alike.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.checks import check_all
from bench.ground import Ground
from bench.load import Load, run_wrk
from bench.people import Person, open_sessions
from bench.servers import PEERS, YIKA, Server, serving

SCRIPT: Final = Path(__file__).with_name("balance.lua")
_WARM_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Turn:
    """One server's turn in one round. `resident_mib`: its memory when the turn was over."""

    server: str
    loads: tuple[Load, ...]
    resident_mib: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    warm_seconds: float
    connections: tuple[int, ...]

    @property
    def turn_seconds(self) -> float:
        return self.warm_seconds + self.seconds * len(self.connections)


def steps(servers: Sequence[str], plan: Plan) -> int:
    """How often `measure` says what it does."""
    checked = {YIKA.name, *PEERS} & {YIKA.name, *servers}
    return len(checked) + plan.rounds * len(servers) * (1 + len(plan.connections))


def measure(
    where: Ground, people: Sequence[Person], servers: Sequence[Server], plan: Plan, step: Callable[[str], None]
) -> list[list[Turn]]:
    """The turns of every round, in the order in which they were. `step` is told before each part of a turn.

    Raises CheckError when a server does not do the same work, InvalidRunError when an answer was not good.
    """
    check_all(where, people, servers, step)
    rounds: list[list[Turn]] = []
    for number in range(plan.rounds):
        pairs = where.folder / f"pairs-{number}"
        tokens = asyncio.run(open_sessions(where, people))
        pairs.write_text("".join(f"{token} {person.card_id}\n" for person, token in tokens))
        first = number % len(servers)
        order = [*servers[first:], *servers[:first]]
        rounds.append([_turn(where, server, pairs, plan, number, step) for server in order])
        pairs.unlink()
    return rounds


def _turn(  # noqa: PLR0913, PLR0917  a turn is all of these
    where: Ground, server: Server, pairs: Path, plan: Plan, number: int, step: Callable[[str], None]
) -> Turn:
    loads: list[Load] = []
    with serving(server, where) as served:

        def run(connections: int, seconds: float, seed: int) -> Load:
            return run_wrk(where, served, SCRIPT, [str(pairs), str(seed)], connections=connections, seconds=seconds)

        step(f"round {number + 1}: {server.name}, warm-up")
        run(_WARM_CONNECTIONS, plan.warm_seconds, 1)
        for connections in plan.connections:
            step(f"round {number + 1}: {server.name}, {connections} connections")
            loads.append(run(connections, plan.seconds, 1000 * (number + 1) + connections))
        return Turn(server.name, tuple(loads), served.running.resident_mib())
