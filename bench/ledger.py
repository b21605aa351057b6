"""What a long ledger costs: `make ledger`, `make ledger ARGS="--links 100000"`.

True here: the first links are made by the product's own sequencer out of access entries that wait, and timed; the rest is laid
behind them with the product's own links, their entries marked already, which is quicker. All of it is looked at by the
product's own `ledger verify`, as a process that has one core. Exit status 1 when one of its bars is missed, 2 when there was no
run to speak of.
"""

import asyncio
import resource
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console

from bench.bars import Bar, exit_status
from bench.ground import AUDIENCE, ISSUER, Ground, ground
from bench.load import InvalidRunError
from bench.machine import WORK, choose_cores, describe, pinned
from bench.programs import ProgramError, run_to_end
from service.clock import Clock
from service.holders import Access
from service.ids import HolderId, OperatorId, new_id
from service.ledger import LANES, Head, Link, Written, link
from service.mongo.embedded import EmbeddedMongoError
from service.mongo.holders import ACCESSES, NONCE_BYTES
from service.mongo.ledger import MongoLedgerStore
from service.sequencing import Sequencer
from service.tokens import Tokens

_LINKS: Final = 1_000_000
_SECONDS: Final = 60.0
_LEAST_A_SECOND: Final = 2000.0
# How many the sequencer puts into the chain, at most.
_SEQUENCED: Final = 50_000
_LINKS_A_PERSON: Final = 10
# Well within the deadline of a call, also on a busy machine.
_BLOCK: Final = 2000
_LONGEST_SECONDS: Final = 3600.0
_INVALID: Final = 2

_out = Console()
_err = Console(stderr=True)


def ledger(
    *, links: Annotated[int, typer.Option(min=1000, help="Links; the bar for looking at them grows with it.")] = _LINKS
) -> None:
    """Put many access entries into the chain, and look at it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        results = _measure(links)
    except (InvalidRunError, ProgramError, EmbeddedMongoError) as error:
        _err.print(f"[bold red]ledger:[/] {error}", highlight=False)
        raise typer.Exit(_INVALID) from None
    bars = (
        Bar("verify", "seconds for all links, one core", "at most", _SECONDS * links / _LINKS, results["verify_seconds"], "s"),
        Bar("chain", "entries put into the chain a second", "at least", _LEAST_A_SECOND, results["chained_a_second"], "/s"),
    )
    for bar in bars:
        word = "reached" if bar.is_reached else "MISSED"
        _out.print(f"{bar.name}: {bar.value:,.1f} {bar.unit}, {bar.sense} {bar.bound:,.1f}: {word}", highlight=False)
    folder = WORK / "results"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {**results, "bars": [asdict(bar) | {"reached": bar.is_reached} for bar in bars]}
    (folder / "ledger.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")
    raise typer.Exit(exit_status(bars))


def _measure(links: int) -> dict[str, Any]:
    cores = choose_cores()

    def say(line: str) -> None:
        _err.print(line, highlight=False)

    with ground(cores, say, on={cores.database}) as (where, database), pinned({cores.server}):
        sequenced = min(links, _SEQUENCED)
        people = [HolderId(new_id("hld")) for _ in range(max(1, links // _LINKS_A_PERSON))]
        asyncio.run(_fill(where, people, sequenced))
        say(f"{sequenced:,} access entries wait")
        began = time.monotonic()
        asyncio.run(_chain(where))
        chained = time.monotonic() - began
        say(f"in the chain after {chained:.1f} s")
        asyncio.run(_lay(where, people, sequenced, links))
        say(f"{links:,} links are there")
        used = _cpu_seconds()
        began = time.monotonic()
        command = (sys.executable, "-m", "service", "ledger", "verify")
        run_to_end(command, {cores.server}, where.yika_environment, _LONGEST_SECONDS)
        verified = time.monotonic() - began
        return {
            **describe(cores, database),
            "links": links,
            "chained_a_second": sequenced / chained,
            "verify_seconds": verified,
            "verify_cpu_seconds": _cpu_seconds() - used,
        }


def _cpu_seconds() -> float:
    """Processor time of everything that was started and has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _entry(people: Sequence[HolderId], number: int, at: datetime) -> Written:
    """An access entry as one is written; each person has some."""
    access = Access(
        access_id=new_id("acc"),
        at=at + timedelta(milliseconds=number),
        action="lookUp",
        by="bureauClerk",
        channel="bureau",
        reason="activation",
        operator_id=OperatorId(new_id("op")),
        ticket=f"T-{number}",
    )
    return Written(people[number % len(people)], access, secrets.token_bytes(NONCE_BYTES), None)


def _document(written: Written) -> dict[str, Any]:
    access = written.access
    return {
        "_id": access.access_id,
        "holderId": written.holder_id,
        "at": access.at,
        "action": access.action,
        "by": access.by,
        "channel": access.channel,
        "reason": access.reason,
        "operatorId": access.operator_id,
        "ticket": access.ticket,
        "nonce": written.nonce,
    }


async def _fill(where: Ground, people: Sequence[HolderId], number: int) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    async with where.database() as database:
        accesses = database.collection(ACCESSES)
        for begin in range(0, number, _BLOCK):
            block = range(begin, min(begin + _BLOCK, number))
            await accesses.insert_all([_document(_entry(people, count, at)) for count in block])


async def _lay(where: Ground, people: Sequence[HolderId], first: int, last: int) -> None:
    """Links behind those that are there, and entries that know their places."""
    at = datetime.now(UTC).replace(microsecond=0)
    async with where.database() as database:
        accesses, store = database.collection(ACCESSES), MongoLedgerStore(database)
        heads = dict(await store.heads(range(LANES)))
        known: dict[HolderId, bytes] = {}
        for begin in range(first, last, _BLOCK):
            lanes: dict[int, list[Link]] = {lane: [] for lane in range(LANES)}
            documents: list[dict[str, Any]] = []
            entries = [_entry(people, number, at) for number in range(begin, min(begin + _BLOCK, last))]
            known |= await store.secrets({one.holder_id for one in entries} - known.keys())
            for written in entries:
                made = link(written, heads[written.lane], known[written.holder_id])
                heads[made.lane] = Head(made.seq, made.hash)
                lanes[made.lane].append(made)
                documents.append({**_document(written), "chained": {"lane": made.lane, "seq": made.seq}})
            await asyncio.gather(accesses.insert_all(documents), *(store.append(some) for some in lanes.values() if some))


async def _chain(where: Ground) -> None:
    tokens = Tokens(lambda: where.ring, ISSUER, AUDIENCE)
    async with where.database() as database:
        sequencer = Sequencer(MongoLedgerStore(database), tokens.sign_checkpoint, Clock())
        while await sequencer.turn():
            pass


if __name__ == "__main__":
    typer.run(ledger)
