"""What more cards cost: `make growth`, `make growth ARGS="--size 10000 --size 100000"`.

True here: the sizes lie side by side in one MongoDB, each imported by the product's own `import`, and take turns in every
round; the people who ask are drawn at random from all who are there, so that the whole of the index is walked. Exit status 1
when a look-up among the most cards costs more than its bar beside one among the fewest, 2 when there was no run to speak of.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from statistics import median
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

from bench.balance import SCRIPT
from bench.bars import Bar, exit_status
from bench.ground import Ground, ground
from bench.load import InvalidRunError, run_wrk
from bench.machine import WORK, choose_cores, describe
from bench.people import Person, generate_command, import_command, open_sessions
from bench.programs import ProgramError, run_to_end
from bench.report import RECORDED
from bench.servers import YIKA, serving
from service.ids import CardId, HolderId
from service.mongo.embedded import EmbeddedMongoError

SIZES: Final = (10_000, 100_000, 1_000_000)
_BOUND: Final = 1.1
_CONNECTIONS: Final = (1, 64)
_WARM_SECONDS: Final = 5.0
_LEAST_ROWS_A_SECOND: Final = 200
_INVALID: Final = 2
_COLLECTIONS: Final = ("cards", "holders")

_out = Console()
_err = Console(stderr=True)


def growth(
    *,
    size: Annotated[list[int] | None, typer.Option(help="Cards.", show_default="10000 100000 1000000")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every size has a turn in each.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds under load, for each number of connections.")] = 5,
    asking: Annotated[int, typer.Option(min=1, help="People who ask, drawn anew every round.")] = 5000,
) -> None:
    """Import more and more cards, and see what a look-up then costs and how much room they take."""
    sizes = tuple(sorted(size or SIZES))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        results = _measure(sizes, rounds, seconds, asking)
    except (InvalidRunError, ProgramError, EmbeddedMongoError) as error:
        _err.print(f"[bold red]growth:[/] {error}", highlight=False)
        raise typer.Exit(_INVALID) from None
    bars = _bars(results)
    _show(results, bars)
    folder = RECORDED if sizes == SIZES else WORK / "results"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {**results, "bars": [asdict(bar) | {"reached": bar.is_reached} for bar in bars]}
    (folder / "growth.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")
    raise typer.Exit(exit_status(bars))


def _measure(sizes: Sequence[int], rounds: int, seconds: int, asking: int) -> dict[str, Any]:
    cores = choose_cores()

    def say(line: str) -> None:
        _err.print(line, highlight=False)

    with ground(cores, say, on=cores.there) as (where, database):
        grounds = {size: replace(where, raw=where.raw.client[f"{where.raw.name}_{size}"]) for size in sizes}
        imports = {size: _import(made, size, say) for size, made in grounds.items()}
        done: list[dict[str, Any]] = []
        for number in range(rounds):
            first = number % len(sizes)
            for size in (*sizes[first:], *sizes[:first]):
                say(f"round {number + 1} of {rounds}: {size:,} cards")
                done.append({"round": number + 1, "cards": size, "loads": _turn(grounds[size], seconds, asking, number)})
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(cores, database),
            "settings": {"sizes": sizes, "rounds": rounds, "seconds": seconds, "asking": asking},
            "imports": [{"cards": size, **told} for size, told in imports.items()],
            "turns": done,
        }


def _import(where: Ground, cards: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Import so many cards; how fast, and the room that they take."""
    say(f"importing {cards:,} cards")
    asyncio.run(where.migrate())
    rows, longest = where.folder / f"{cards}.ndjson", cards / _LEAST_ROWS_A_SECOND + 60
    run_to_end(generate_command(rows, cards, cards), where.cores.there, {}, longest)
    begun = time.perf_counter()
    run_to_end(import_command(rows), where.cores.there, where.yika_environment, longest)
    took = time.perf_counter() - begun
    rows.unlink()
    there = where.raw.cards.count_documents({})
    if there < cards:
        raise InvalidRunError(f"{cards} cards were to be imported and {there} are there")
    # Sizes on disk are those of the last checkpoint.
    where.raw.client.admin.command("fsync")
    return {"seconds": took, "rate": cards / took, "room": {name: _room(where, name) for name in _COLLECTIONS}}


def _room(where: Ground, name: str) -> dict[str, Any]:
    """Bytes: a document as it is read, documents on disk, and each index on disk."""
    told = where.raw.command("collStats", name)
    return {
        "documents": told["count"],
        "document_bytes": told["avgObjSize"],
        "disk_bytes": told["storageSize"],
        "index_bytes": dict(told["indexSizes"]),
    }


def _turn(where: Ground, seconds: int, asking: int, number: int) -> list[dict[str, Any]]:
    pairs = where.folder / "pairs"
    tokens = asyncio.run(open_sessions(where, _drawn(where, asking)))
    pairs.write_text("".join(f"{token} {person.card_id}\n" for person, token in tokens))
    with serving(YIKA, where) as served:

        def run(connections: int, lasting: float, seed: int) -> dict[str, Any]:
            return asdict(run_wrk(where, served, SCRIPT, [str(pairs), str(seed)], connections=connections, seconds=lasting))

        run(_CONNECTIONS[-1], _WARM_SECONDS, 1)
        return [run(connections, seconds, 1000 * (number + 1) + connections) for connections in _CONNECTIONS]


def _drawn(where: Ground, count: int) -> list[Person]:
    """People drawn at random, as look-ups need them."""
    found = where.raw.cards.aggregate([{"$sample": {"size": count}}, {"$project": {"holderId": 1}}])
    return [Person(HolderId(card["holderId"]), CardId(card["_id"]), "", "", "") for card in found]


def _middle(results: dict[str, Any], cards: int, connections: int, field: str) -> float:
    turns = [turn for turn in results["turns"] if turn["cards"] == cards]
    return float(median(load[field] for turn in turns for load in turn["loads"] if load["connections"] == connections))


def _bars(results: dict[str, Any]) -> list[Bar]:
    fewest, *_, most = results["settings"]["sizes"]

    def bar(what: str, field: str, connections: int) -> Bar:
        value = _middle(results, most, connections, field) / _middle(results, fewest, connections, field)
        return Bar("growth", f"{what} among {most:,} / among {fewest:,}, {connections} connections", "at most", _BOUND, value)

    return [bar("p50", "p50", n) for n in _CONNECTIONS] + [bar("CPU a request", "cpu_per_request", n) for n in _CONNECTIONS]


def _show(results: dict[str, Any], bars: Sequence[Bar]) -> None:
    table = Table(title="Growth, medians", title_justify="left")
    headings = (
        "cards",
        "import rows/s",
        "p50 ms, 1",
        "p50 ms, 64",
        "CPU µs, 64",
        "requests/s, 64",
        "card bytes",
        "index bytes a card",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for told in results["imports"]:
        cards, room = told["cards"], told["room"]["cards"]
        table.add_row(
            f"{cards:,}",
            f"{told['rate']:,.0f}",
            *(f"{_middle(results, cards, connections, 'p50') / 1000:.2f}" for connections in _CONNECTIONS),
            f"{_middle(results, cards, _CONNECTIONS[-1], 'cpu_per_request'):,.0f}",
            f"{_middle(results, cards, _CONNECTIONS[-1], 'rate'):,.0f}",
            f"{room['document_bytes']:,.0f}",
            f"{sum(room['index_bytes'].values()) / room['documents']:,.0f}",
        )
    _out.print(table)
    for bar in bars:
        _out.print(f"{bar.of}: {bar.value:.2f}, {bar.sense} {bar.bound}: {'reached' if bar.is_reached else 'NOT reached'}")


if __name__ == "__main__":
    typer.run(growth)
