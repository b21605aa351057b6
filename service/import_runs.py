"""One import from its first line to its last: in what order rows are written, and where it goes on after a kill.

True here: what the whole import does is the same however often it was broken off, because
- a batch is written before the progress that counts it, and its complaints are on disk before that;
- a row never changes what is there, so a batch that is written again adds nothing;
- of two rows that want the same card or name the same person, the one that stands first in the file wins: batches that
  have something in common are never under way together.
A person is written before their cards. Never here: two processes on one file; a lock that ends by itself sees to that.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final, NamedTuple, Protocol, TypeVar

from service.errors import Refusal
from service.ids import CardId, HolderId, new_id
from service.import_files import Complaint, Lines, Place, RejectedFile, SourceFile
from service.mendable import MendableError

LEASE_SECONDS: Final = 6.0
_HEARTBEAT_SECONDS: Final = 1.5
_ASK_AGAIN_SECONDS: Final = 0.5
_SAME_SIGNAL_SECONDS: Final = 1.0
# One batch waits for the disk, one travels, one is being taken apart.
_WRITES: Final = 3
# How long a database that does not answer is waited for.
_PATIENCE_SECONDS: Final = 60.0
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
_TAKEN: Final = ("cardNumber", "cardNumberTaken")
_AGAIN: Final = "run the command again to go on"
_TAKEN_OVER: Final = "another process has gone on with this import"
_Result = TypeVar("_Result")


class PreparedRow(NamedTuple):
    """A row that was found good, sealed and encoded: `person` is the blind index of the ID number."""

    line: int
    person: bytes
    holder_id: HolderId
    holder: bytes
    card_id: CardId
    card: bytes


class Batch(NamedTuple):
    """Some lines of the file, judged: rows to write, complaints about the others, and how many those are."""

    rows: list[PreparedRow]
    complaints: list[Complaint]
    rejected: int

    def names(self) -> frozenset[object]:
        """The people and cards that its rows are about."""
        return frozenset(name for row in self.rows for name in (row.person, row.card_id))


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been done so far. A row is a card: added, there already, or rejected."""

    people_added: int = 0
    cards_added: int = 0
    cards_known: int = 0
    rejected: int = 0

    @property
    def rows(self) -> int:
        return self.cards_added + self.cards_known + self.rejected

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.people_added + other.people_added,
            self.cards_added + other.cards_added,
            self.cards_known + other.cards_known,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is. `rejected_bytes`: what the rejected rows took up by then."""

    place: Place
    counts: Counts
    rejected_bytes: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """The lock of an import, and how far the one who had it before came, if anybody had."""

    progress: Progress | None


class RunStore(Protocol):
    """Where cards and people are put, and how far an import is."""

    async def claim(self, run: str, owner: str, lease_seconds: float) -> Claimed | None:
        """Take the lock of an import; None while another process has it."""

    async def save(self, run: str, owner: str, progress: Progress, lease_seconds: float) -> bool:
        """Write the progress down and keep the lock; False when another process has it now."""

    async def keep(self, run: str, owner: str, lease_seconds: float) -> bool:
        """Keep the lock; False when another process has it now."""

    async def release(self, run: str, owner: str) -> None:
        """Let go of the lock."""

    async def add_people(self, rows: Sequence[PreparedRow]) -> Mapping[bytes, HolderId]:
        """Add the people of rows, each person once; of those who were there, under which id."""

    async def add_cards(self, rows: Sequence[PreparedRow]) -> Mapping[CardId, HolderId]:
        """Add the cards of rows, each card once; of those which were there, whose they are."""

    def of_holder(self, row: PreparedRow, holder_id: HolderId) -> PreparedRow:
        """The same card for a person who is known under another id."""


class RunError(MendableError):
    """An import ended before its end; the text says why."""


class WorkersGone(Exception):  # noqa: N818  whether that is an error depends on why
    """The processes that prepare batches are no more."""


Prepare = Callable[[Lines], Awaitable[Batch]]


class ImportRun:
    """One import of one file."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        run: str,
        source: SourceFile,
        rejected: RejectedFile,
        store: RunStore,
        prepare: Prepare,
        ahead: int,
        tell: Callable[[Progress], None],
        say: Callable[[str], None],
    ) -> None:
        """`run` names the import; `ahead`: how many batches are prepared beyond those being written.

        `prepare` raises WorkersGone, and RunError for a line that nobody can judge.
        """
        self._run = run
        self._owner = new_id("imp")
        self._source = source
        self._rejected = rejected
        self._store = store
        self._prepare = prepare
        self._ahead = ahead
        self._tell = tell
        self._say = say
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after what is being written."""
        self._stopping.set()

    async def go(self, *, start_over: bool, skip_header: Callable[[SourceFile], None]) -> Progress:
        """Import, or go on importing; how far it came. `skip_header` goes from the beginning to the first row.

        Raises RunError and FileError, and Refusal when the database does not answer at all.
        """
        known = await self._claim()
        try:
            async with asyncio.TaskGroup() as group:
                # From here on: to find the place in a long file takes longer than a lease.
                heart = group.create_task(self._beat())
                progress = await asyncio.to_thread(self._begin, known, start_over, skip_header)
                self._tell(progress)
                progress = await self._through(progress, group)
                heart.cancel()
        except BaseExceptionGroup as errors:
            # The first is what went wrong; the others were under way and ended with it.
            raise errors.exceptions[0] from None
        else:
            return progress
        finally:
            # A lock that cannot be let go ends by itself.
            with suppress(Refusal):
                await self._store.release(self._run, self._owner)

    async def _claim(self) -> Progress | None:
        told = False
        while not self._stopping.is_set():
            claimed = await self._store.claim(self._run, self._owner, LEASE_SECONDS)
            if claimed is not None:
                return claimed.progress
            if not told:
                self._say(f"another process has this import; waiting, also for {LEASE_SECONDS:.0f} s in case it was killed")
                told = True
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        raise RunError("stopped while another process had this import")

    def _begin(self, known: Progress | None, start_over: bool, skip_header: Callable[[SourceFile], None]) -> Progress:  # noqa: FBT001  a word of the command line
        if known is not None and not known.done and not start_over:
            if not self._source.go_to(known.place):
                self._say("the file is another one than before: beginning anew; what is there stays")
            elif not self._rejected.cut(known.rejected_bytes):
                self._say("the rejected rows of before are gone: beginning anew; what is there stays")
            else:
                return known
        self._source.begin()
        skip_header(self._source)
        self._rejected.cut(0)
        return Progress(self._source.place, Counts(), 0)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            try:
                kept = await self._store.keep(self._run, self._owner, LEASE_SECONDS)
            except Refusal:
                continue
            if not kept:
                raise RunError(_TAKEN_OVER)

    async def _through(self, progress: Progress, group: asyncio.TaskGroup) -> Progress:
        preparing: deque[_Preparing] = deque()
        writing: deque[_Writing] = deque()
        ended = False
        while True:
            while not ended and not self._stopping.is_set() and len(preparing) < self._ahead:
                lines = await asyncio.to_thread(self._source.lines)
                if lines is None:
                    ended = True
                else:
                    preparing.append(_Preparing(lines.after, group.create_task(self._prepared(lines))))
            if preparing and not self._stopping.is_set():
                after, prepared = preparing.popleft()
                batch = await prepared
                if batch is None:
                    ended = False
                    continue
                names = batch.names()
                while writing and (len(writing) >= _WRITES or not all(names.isdisjoint(other.names) for other in writing)):
                    progress = await self._settle(progress, writing.popleft())
                writing.append(_Writing(after, names, group.create_task(self._patiently(batch))))
            elif writing:
                progress = await self._settle(progress, writing.popleft())
            else:
                break
        for left in preparing:
            left.prepared.cancel()
        if ended and not preparing:
            progress = replace(progress, done=True)
            await self._save(progress)
        return progress

    async def _prepared(self, lines: Lines) -> Batch | None:
        """A batch, or None when a stop has ended the workers too: a service manager signals all processes of a service."""
        try:
            return await self._prepare(lines)
        except WorkersGone:
            # The same signal may reach them before it reaches us.
            with suppress(TimeoutError):
                async with asyncio.timeout(_SAME_SIGNAL_SECONDS):
                    await self._stopping.wait()
                return None
            raise RunError(f"a worker process ended by itself; {_AGAIN}") from None

    async def _settle(self, progress: Progress, written: "_Writing") -> Progress:
        """Count a batch that is written: first its complaints, then the progress that says so."""
        outcome = await written.outcome
        size = await asyncio.to_thread(self._rejected.write, outcome.complaints)
        progress = Progress(written.after, progress.counts + outcome.counts, size)
        await self._save(progress)
        self._tell(progress)
        return progress

    async def _save(self, progress: Progress) -> None:
        saved = await self._patient(lambda: self._store.save(self._run, self._owner, progress, LEASE_SECONDS))
        if not saved:
            raise RunError(_TAKEN_OVER)

    async def _patiently(self, batch: Batch) -> "_Outcome":
        return await self._patient(lambda: self._write(batch))

    async def _patient(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Try again while the database is away: whatever is written twice here adds nothing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            try:
                return await attempt()
            except Refusal as refusal:
                if loop.time() > deadline or self._stopping.is_set():
                    raise RunError(f"the database does not answer ({refusal.code}); {_AGAIN}") from None
            await asyncio.sleep(next(pauses))

    async def _write(self, batch: Batch) -> "_Outcome":
        people: dict[bytes, PreparedRow] = {}
        for row in batch.rows:
            people.setdefault(row.person, row)
        known = await self._store.add_people(list(people.values()))
        ids = {person: known.get(person, row.holder_id) for person, row in people.items()}
        cards: dict[CardId, PreparedRow] = {}
        for row in batch.rows:
            if row.card_id not in cards:
                holder_id = ids[row.person]
                cards[row.card_id] = row if row.holder_id == holder_id else self._store.of_holder(row, holder_id)
        there = await self._store.add_cards(list(cards.values()))
        owners = {card_id: there.get(card_id, row.holder_id) for card_id, row in cards.items()}
        taken = [Complaint(row.line, *_TAKEN) for row in batch.rows if owners[row.card_id] != ids[row.person]]
        added = len(cards) - len(there)
        counts = Counts(
            people_added=len(people) - len(known),
            cards_added=added,
            cards_known=len(batch.rows) - added - len(taken),
            rejected=batch.rejected + len(taken),
        )
        return _Outcome(counts, sorted(batch.complaints + taken))


class _Outcome(NamedTuple):
    counts: Counts
    complaints: list[Complaint]


class _Preparing(NamedTuple):
    after: Place
    prepared: asyncio.Task[Batch | None]


class _Writing(NamedTuple):
    after: Place
    names: frozenset[object]
    outcome: asyncio.Task[_Outcome]
