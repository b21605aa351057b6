"""The command line of the ledger: `python -m service ledger verify` and `… ledger export`.

True here: what is shown is numbers, lanes and kinds of faults; how a check ended is told by its exit status. Never here: an
entry, or whose it is.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.checkpoints import Checkpoint
from service.clock import show
from service.config import Config
from service.ledger_checks import Checked, Finding, LedgerChecks
from service.mongo.ledger import MongoLedgerStore
from service.mongo.migrations import pending
from service.starting import StartError, connect, load_keys
from service.terminal import configuration, out, run, stop
from service.tokens import Tokens

ledger_command = typer.Typer(no_args_is_help=True, help="The ledger: a chain over every look at, and change of, people's data.")

WHOLE: Final = 0
BROKEN: Final = 3
_PAGE: Final = 1000


class _ExportError(Exception):
    """A file of checkpoints is none; the text says where."""


@ledger_command.command()
def verify(
    *,
    against: Annotated[
        Path | None, typer.Option(help="Checkpoints that were exported before, as NDJSON.", metavar="FILE")
    ] = None,
) -> None:
    """Look at every link, the words that it commits to, and every checkpoint. Changes nothing; the service may run meanwhile.

    Exit status: 0 all is whole, 3 a fault was found, 1 it could not be looked at.
    """
    config = configuration()
    try:
        exported = _read(against) if against else []
    except (_ExportError, OSError) as error:
        stop(error)

    async def work(progress: Callable[[int, int], None]) -> Checked:
        async with _store(config) as store:
            keys = load_keys(config)
            tokens = Tokens(lambda: keys.ring, config.issuer, config.audience)
            return await LedgerChecks(store, tokens.read_checkpoint).check(exported, progress)

    with _shown(out) as progress:
        checked = run(work(progress))
    out.print(f"{checked.links:,} links and {checked.checkpoints:,} checkpoints were looked at", highlight=False)
    for finding in checked.findings:
        out.print(told(finding), highlight=False, soft_wrap=True)
    if checked.findings:
        raise typer.Exit(BROKEN)
    out.print("the ledger is whole", highlight=False)


@ledger_command.command()
def export(
    *,
    output: Annotated[Path | None, typer.Option(help="A file; standard output unless said.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Only checkpoints behind this number.")] = 0,
) -> None:
    """Write the checkpoints as NDJSON, to be kept where nobody who reaches the database can change them."""
    config = configuration()

    async def work(file: BinaryIO) -> int:
        count, last = 0, after
        async with _store(config) as store:
            while page := await store.checkpoints(last, _PAGE):
                file.write(b"".join(_line(checkpoint) for checkpoint in page))
                count, last = count + len(page), page[-1].number
        file.flush()
        return count

    if output is None:
        run(work(sys.stdout.buffer))
        return
    try:
        with output.open("wb") as file:
            count = run(work(file))
    except OSError as error:
        stop(error)
    out.print(f"{count:,} checkpoints written", highlight=False)


def told(finding: Finding) -> str:
    """A fault in a line: its kind, and where."""
    where = f"checkpoint {finding.seq}" if finding.lane is None else f"lane {finding.lane}, seq {finding.seq}"
    return f"{finding.fault}: {where}"


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[MongoLedgerStore]:
    """The ledger of a configuration. Raises StartError when the database lacks steps."""
    async with connect(config) as database:
        if await pending(database):
            raise StartError("the database lacks migrations: run `python -m service migrate` first")
        yield MongoLedgerStore(database)


def _line(checkpoint: Checkpoint) -> bytes:
    return orjson.dumps({"number": checkpoint.number, "at": show(checkpoint.at), "signed": checkpoint.signed}) + b"\n"


def _read(path: Path) -> list[Checkpoint]:
    """The checkpoints of a file. Raises _ExportError and OSError."""
    checkpoints: list[Checkpoint] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            said = orjson.loads(line)
            at = datetime.fromisoformat(said["at"])
            checkpoints.append(Checkpoint(int(said["number"]), at, str(said["signed"]), 0))
        except (ValueError, KeyError, TypeError):
            raise _ExportError(f"{path}: line {number} is no checkpoint") from None
    return checkpoints


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Shows how far it is: a bar on a terminal, else nothing until the end."""
    columns = (TextColumn("verify"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
