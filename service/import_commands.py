"""The two commands about rows in bulk: `import` takes them in, `generate` invents some.

True here: what is shown is numbers and paths; how a command ended is told by its exit status. Never here: a value of a row
on standard output, but for `generate`, whose rows are nobody's.
"""

import csv
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from schemas.imports import FIELDS
from service.config import Config
from service.import_runs import Counts
from service.import_runs import Progress as RunProgress
from service.importing import Format, Order, cores, format_of, import_file
from service.logs import set_up_logs
from service.regions import SHIPPED, Regions
from service.sandbox.population import Fields, Mix, Population
from service.strict_toml import FaultyFileError
from service.terminal import configuration, out, run, stop

DONE: Final = 0
REJECTED: Final = 3
STOPPED: Final = 4
_LINE_SECONDS: Final = 10.0
_BLOCK: Final = 2000

Tell = Callable[[RunProgress, int], None]


def import_rows(
    path: Annotated[Path, typer.Argument(help="A file of rows, NDJSON or CSV: docs/import.md.", metavar="FILE")],
    *,
    rejected: Annotated[
        Path | None, typer.Option(help="Where rejected rows are told; FILE.rejected.ndjson unless said.")
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Unless the name of the file tells.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that check and seal.")] = cores(),
    start_over: Annotated[bool, typer.Option("--start-over", help="From the first row, also after a break.")] = False,
) -> None:
    """Take in cards and their holders; what is there already stays as it is. Run it again to go on after a break.

    Exit status: 0 all rows are taken, 3 some were rejected, 4 stopped before the end, 1 it could not go on.
    """
    config = configuration()
    set_up_logs(config.log_level)
    known = form or format_of(path)
    if known is None:
        stop("is it NDJSON or CSV? Say --format ndjson or --format csv")
    order = Order(path, rejected or path.with_name(f"{path.name}.rejected.ndjson"), known, workers, start_over)
    with _shown(out) as tell:
        progress = run(import_file(config, order, tell=tell, say=lambda line: out.print(line, highlight=False)))
    for line in _summary(progress.counts, done=progress.done, rejected=order.rejected):
        out.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(_status_of(progress.counts, done=progress.done))


def generate_rows(  # noqa: PLR0913  options, each with a name
    *,
    cards: Annotated[int, typer.Option(min=1, help="How many cards, a row each.")],
    people: Annotated[int | None, typer.Option(min=1, help="How many people; nine to ten cards unless said.")] = None,
    seed: Annotated[str, typer.Option(help="The same seed, the same people.")] = "1",
    form: Annotated[Format, typer.Option("--format", help="Of the rows.")] = "ndjson",
    status: Annotated[Mix, typer.Option(help="Only cards that can be activated, or some of every kind.")] = "mixed",
    region: Annotated[list[str] | None, typer.Option(help="Only these regions; may be said several times.")] = None,
    output: Annotated[Path | None, typer.Option(help="A file; standard output unless said.")] = None,
) -> None:
    """Invent people and cards for an import: any number, nobody real."""
    config = configuration(environment="sandbox")
    try:
        _generate(config, cards, people, seed=seed, form=form, mix=status, regions=region, output=output)
    except (ValueError, FaultyFileError, OSError) as error:
        stop(error)


@contextmanager
def _shown(console: Console) -> Iterator[Tell]:
    """Shows how far an import is: a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        _Rate(),
        TextColumn("{task.fields[rejected]:,} rejected"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("import", total=None, rows=0, rejected=0, since=0, began=0.0)

        def tell(progress: RunProgress, size: int) -> None:
            counts = progress.counts
            if not bar.tasks[0].fields["began"]:
                bar.update(task, since=counts.rows, began=time.monotonic())
            bar.update(task, total=size, completed=progress.place.offset, rows=counts.rows, rejected=counts.rejected)

        yield tell


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = time.monotonic() - task.fields["began"] if task.fields["began"] else 0.0
        return Text(f"{(task.fields['rows'] - task.fields['since']) / seconds:,.0f}/s" if seconds else "")


def _lines(console: Console) -> Tell:
    began: float | None = None
    said, since = 0.0, 0

    def tell(progress: RunProgress, size: int) -> None:
        nonlocal began, said, since
        now, rows = time.monotonic(), progress.counts.rows
        if began is None:
            began, said, since = now, now, rows
        if now - said < _LINE_SECONDS:
            return
        said = now
        percent = 100 * progress.place.offset / max(size, 1)
        rate, rejected = (rows - since) / (now - began), progress.counts.rejected
        console.print(f"{percent:.0f} %: {rows:,} rows, {rate:,.0f}/s, {rejected:,} rejected", highlight=False)

    return tell


def _summary(counts: Counts, *, done: bool, rejected: Path) -> Iterator[str]:
    """What came of it, in a few lines."""
    yield f"{counts.cards_added:,} cards added, {counts.cards_known:,} there already, {counts.rejected:,} rows rejected"
    yield f"{counts.people_added:,} people added"
    if counts.rejected:
        yield f"why rows were rejected: {rejected}"
    if not done:
        yield "stopped before the end; the same command goes on from here"


def _status_of(counts: Counts, *, done: bool) -> int:
    """The exit status: everything taken, some rows rejected, or stopped before the end."""
    if not done:
        return STOPPED
    return REJECTED if counts.rejected else DONE


def _generate(  # noqa: PLR0913  what the command line asks for, named
    config: Config,
    cards: int,
    people: int | None,
    *,
    seed: str,
    form: Format,
    mix: Mix,
    regions: Sequence[str] | None,
    output: Path | None,
) -> None:
    """Invent people in some regions, all unless said. Raises ValueError, FaultyFileError and OSError."""
    served = Regions.load_directory(config.regions_dir or SHIPPED)
    if unknown := [code for code in regions or () if code not in served.by_code]:
        raise ValueError(f"no such region: {unknown[0]}")
    chosen = [region for region in served if not regions or region.code in regions]
    population = Population(chosen, cards=cards, people=people or (cards * 9 + 9) // 10, seed=seed, mix=mix)
    if output is None:
        _write_population(population, form, sys.stdout.buffer)
        return
    with output.open("wb") as file:
        _write_population(population, form, file)


def _write_population(population: Population, form: Format, out: BinaryIO) -> None:
    """Write every row. A reader that has had enough ends it quietly."""
    rows = population.rows()
    try:
        if form == "csv":
            out.write((",".join(FIELDS) + "\r\n").encode())
        while block := list(islice(rows, _BLOCK)):
            out.write(_as_csv(block) if form == "csv" else b"".join(orjson.dumps(row) + b"\n" for row in block))
        out.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at the end.
        sys.stdout = None


def _as_csv(rows: Sequence[Fields]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([str(row.get(name, "")) if row.get(name) is not True else "true" for name in FIELDS] for row in rows)
    return text.getvalue().encode()
