"""The command line of an import: `python -m service import`.

True here: what is shown is numbers and paths; how it ended is told by its exit status. Never here: a value of a row.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from service.import_files import Format
from service.import_runs import Counts
from service.import_runs import Progress as RunProgress
from service.importing import Order, cores, format_of, import_file
from service.logs import set_up_logs
from service.terminal import configuration, out, run, stop

DONE: Final = 0
REJECTED: Final = 3
STOPPED: Final = 4
_LINE_SECONDS: Final = 10.0

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
