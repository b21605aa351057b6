"""The command line: `make bench`, `make bench ARGS="--rounds 2 --seconds 3 --only balance"`.

Exit status: 0 when every bar that was measured is reached, 1 when one is not, 2 when there is no run to speak of.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import activation, balance, importing, worker
from bench.balance import Plan
from bench.bars import bars_of, exit_status
from bench.checks import CheckError
from bench.ground import Ground, ground
from bench.load import InvalidRunError
from bench.machine import Cores, choose_cores, describe
from bench.people import load
from bench.programs import ProgramError
from bench.report import show, write
from bench.servers import SERVERS
from service.mongo.embedded import EmbeddedMongoError

_LEAST_PEOPLE: Final = 2000
_LEAST_SEALED: Final = 6000
_LEAST_IMPORTED: Final = 20_000
# An access token lives ten minutes, and a round uses one set of them.
_LONGEST_ROUND: Final = 540
_START_SECONDS: Final = 4
_INVALID: Final = 2
_CONNECTIONS: Final = (1, 16, 64, 256)

_WIDTH: Final = 120

# A file or a pipe has no width to fit into.
_out = Console(width=None if sys.stdout.isatty() else _WIDTH)
_err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)


class Part(StrEnum):
    """What can be measured by itself."""

    BALANCE = "balance"
    ACTIVATION = "activation"
    IMPORT = "import"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for."""

    parts: tuple[Part, ...]
    servers: tuple[str, ...]
    plan: Plan
    people: int
    sealed: int
    imported: int

    @property
    def wanted(self) -> int:
        """How many people the parts need who are measured on one core."""
        sealed = self.sealed if Part.ACTIVATION in self.parts else 0
        return self.people + sealed if {Part.BALANCE, Part.ACTIVATION} & set(self.parts) else 0


def bench(  # noqa: PLR0913  the options there are
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every server has a turn in each.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds under load, for each number of connections.")] = 5,
    warm: Annotated[int, typer.Option(min=1, help="Seconds of warm-up, the same for every server.")] = 5,
    people: Annotated[int, typer.Option(min=_LEAST_PEOPLE, help="People, each with a card and a session.")] = _LEAST_PEOPLE,
    sealed: Annotated[int, typer.Option(min=_LEAST_SEALED, help="More people, whose cards are activated in a turn.")] = 14_000,
    imported: Annotated[int, typer.Option(min=_LEAST_IMPORTED, help="Cards of the import.")] = 100_000,
    connections: Annotated[list[int] | None, typer.Option(help="Numbers of connections.", show_default="1 16 64 256")] = None,
    only: Annotated[list[Part] | None, typer.Option(help="Measure only this part.", show_default="all")] = None,
    server: Annotated[list[str] | None, typer.Option(help="Measure only these.", show_default="all")] = None,
) -> None:
    """Measure Yika against its peers and hold it to its bars."""
    chosen = tuple(server) if server else tuple(SERVERS)
    if unknown := set(chosen) - set(SERVERS):
        raise typer.BadParameter(f"there is no server {', '.join(sorted(unknown))}: {', '.join(SERVERS)}")
    plan = Plan(rounds, seconds, warm, tuple(connections or _CONNECTIONS))
    if len(chosen) * (plan.turn_seconds + _START_SECONDS) > _LONGEST_ROUND:
        raise typer.BadParameter("a round would outlive its tokens, which are good for ten minutes: fewer seconds, please")
    settings = Settings(tuple(only or Part), chosen, plan, people, sealed, imported)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = _run(settings, choose_cores())
    except (CheckError, InvalidRunError, ProgramError, EmbeddedMongoError) as error:
        _err.print(f"[bold red]bench:[/] {error}", highlight=False)
        status = _INVALID
    except KeyboardInterrupt:
        _err.print("bench: interrupted; everything that it started is stopped", highlight=False)
        status = 128 + signal.SIGINT
    raise typer.Exit(status)


def _run(settings: Settings, cores: Cores) -> int:
    # This process watches; the server's core is not its to use.
    os.sched_setaffinity(0, {cores.load})
    results: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "settings": _told(settings)}

    def say(line: str) -> None:
        _err.print(line, highlight=False)

    with _progress(_steps(settings)) as step:
        if set(settings.parts) - {Part.IMPORT}:
            step("a database")
            with ground(cores, say, on={cores.database}) as (where, database):
                results["machine"] = describe(cores, database)
                results |= _on_one_core(settings, where, step)
        if Part.IMPORT in settings.parts:
            step("a database on all cores")
            with ground(cores, say, on=cores.there) as (where, database):
                results["machine"] = describe(cores, database)
                results["import"] = importing.measure(where, settings.imported, settings.plan.rounds, step)
    titles = {name: server.title for name, server in SERVERS.items()}
    bars = bars_of(results)
    show(_out, results, bars, titles)
    folder = write(results, bars, titles)
    _out.print(f"raw numbers: {os.path.relpath(folder)}/latest.json", highlight=False)
    return exit_status(bars)


def _on_one_core(settings: Settings, where: Ground, step: Callable[[str], None]) -> dict[str, Any]:
    """The parts in which the server has a core, and the database another one."""
    results: dict[str, Any] = {}
    plan = settings.plan
    if Part.WORKER in settings.parts:
        results["worker"] = worker.measure(where, plan.rounds, step)
    wanted = settings.wanted
    if wanted:
        step(f"{wanted:,} people")
        everybody = load(where, wanted)
        people, sealed = everybody[: settings.people], everybody[settings.people :]
        if Part.BALANCE in settings.parts:
            servers = [SERVERS[name] for name in settings.servers]
            rounds = balance.measure(where, people, servers, plan, step)
            results["balance"] = {"rounds": [[asdict(turn) for turn in turns] for turns in rounds]}
        if Part.ACTIVATION in settings.parts:
            results["activation"] = activation.measure(where, sealed, plan.rounds, plan.seconds, step)
    return results


def _told(settings: Settings) -> dict[str, Any]:
    return {
        "rounds": settings.plan.rounds,
        "seconds": settings.plan.seconds,
        "warm_seconds": settings.plan.warm_seconds,
        "connections": settings.plan.connections,
        "people": settings.people,
        "sealed": settings.sealed,
        "imported": settings.imported,
        "servers": settings.servers,
    }


def _steps(settings: Settings) -> int:
    """How many steps the progress has."""
    rounds = settings.plan.rounds
    count = {
        Part.WORKER: rounds,
        Part.BALANCE: balance.steps(settings.servers, settings.plan),
        Part.ACTIVATION: activation.steps(rounds),
        Part.IMPORT: 1 + importing.steps(rounds),
    }
    others = bool(set(settings.parts) - {Part.IMPORT}) + bool(settings.wanted)
    return others + sum(count[part] for part in settings.parts)


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], None]]:
    """Calls that say what is begun now. Where nobody watches, a line each."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Once a second: the screen is drawn on the load's core.
    with Progress(*columns, console=_err, refresh_per_second=1, transient=True) as progress:
        task = progress.add_task("", total=steps)
        begun = 0

        def step(what: str) -> None:
            nonlocal begun
            progress.update(task, completed=begun, description=what)
            begun += 1
            if not _err.is_terminal:
                _err.print(f"[{begun}/{steps}] {what}", highlight=False, markup=False)

        yield step


if __name__ == "__main__":
    typer.run(bench)
