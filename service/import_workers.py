"""The processes that turn lines into sealed documents: parsing, judging and sealing is all that an import computes.

True here: a worker holds the keys and touches neither network nor database; it ends with the process that started it, also
when that one was killed. Never here: an exception with a line in it; a line that cannot be read is a complaint.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Final, TypeVar

from schemas.imports import read_csv_row, read_json_row
from service.collector import spare_the_collector
from service.import_files import Complaint, Lines
from service.import_runs import Batch, Prepare, PreparedRow, RunError, WorkersGone
from service.imports import Fault, Rejected, Row, RowRules
from service.keyring import load_keyring
from service.mongo.imports import prepared
from service.regions import Regions
from service.sandbox.invention import is_invented, is_invented_region
from service.vault import Vault

_AT_A_TIME: Final = 100
_Before = TypeVar("_Before")
_After = TypeVar("_After")


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is made of. `columns`: those of a CSV file; None for NDJSON."""

    keyring: Path
    regions: Path
    sandbox: bool
    columns: tuple[str, ...] | None


class Desk:
    """Judges lines and seals what becomes of them."""

    def __init__(self, plan: WorkerPlan) -> None:
        """Raises KeyringError and PolicyError."""
        self._ring = load_keyring(plan.keyring)
        self._columns = plan.columns
        served = Regions.load_directory(plan.regions)
        fault = _not_invented if plan.sandbox else _invented
        # A sandbox that was given real regions must still take nobody real.
        at_home = {code: region for code, region in served.by_code.items() if is_invented_region(code) == plan.sandbox}
        self._rules = RowRules(Regions(at_home), Vault(lambda: self._ring), fault)

    def judge(self, lines: Lines) -> Batch:
        """The batch of some lines. Empty lines are nothing."""
        now, vault = datetime.now(UTC), Vault(lambda: self._ring)
        numbered = [(number, line) for number, line in enumerate(lines.lines, start=lines.first) if line != b""]
        rows: list[PreparedRow] = []
        complaints: list[Complaint] = []
        # Step by step for some lines at a time, because the code of one step then stays in the processor's cache: measured,
        # a fifth less time than line by line.
        for start in range(0, len(numbered), _AT_A_TIME):
            read = _each(self._read, numbered[start : start + _AT_A_TIME], complaints)
            entries = _each(lambda row: self._rules.entry(row, now), read, complaints)
            rows.extend(prepared(vault, number, entry) for number, entry in entries)
        return Batch(rows, complaints, len({complaint.line for complaint in complaints}))

    def _read(self, line: bytes | None) -> Row:
        if line is None:
            raise Rejected([Fault("", "tooLong")])
        return read_json_row(line) if self._columns is None else read_csv_row(line, self._columns)


def _each(
    step: Callable[[_Before], _After], numbered: Iterable[tuple[int, _Before]], complaints: list[Complaint]
) -> list[tuple[int, _After]]:
    """What a step makes of each, by line; what it rejects becomes complaints."""
    made: list[tuple[int, _After]] = []
    for number, before in numbered:
        try:
            made.append((number, step(before)))
        except Rejected as rejected:
            complaints.extend(Complaint(number, fault.field, fault.reason) for fault in rejected.faults)
        except Exception as error:  # noqa: BLE001  whatever it is, its text must not get out
            # A fault of ours. Its text may hold what stood in the line.
            raise RunError(f"line {number} cannot be judged ({type(error).__name__}): this should be reported") from None
    return made


def _invented(id_number: str) -> str | None:
    return "invented" if is_invented(id_number) else None


def _not_invented(id_number: str) -> str | None:
    return None if is_invented(id_number) else "notInvented"


_desk: Desk


def _begin(plan: WorkerPlan) -> None:
    global _desk  # noqa: PLW0603  a worker process is its desk
    # Ctrl-C goes to all processes of a terminal; the one that leads decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _desk = Desk(plan)
    spare_the_collector()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _judge(lines: Lines) -> Batch:
    return _desk.judge(lines)


@contextmanager
def workers(plan: WorkerPlan, count: int) -> Iterator[Prepare]:
    """So many processes. What the block is given raises WorkersGone when one of them was killed."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(plan,)) as pool:

        async def prepare(lines: Lines) -> Batch:
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, _judge, lines)
            except BrokenProcessPool:
                raise WorkersGone from None

        try:
            yield prepare
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
