"""Checking the ledger: along every lane, link by link, beside the words that the links commit to and the checkpoints.

True here: what is found names the lane, the place and the kind of the first fault there; what is appended or erased meanwhile
is no fault. Never here: a repair. A chain that was broken stays as it is found, for somebody to look into.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from service.checkpoints import Checkpoint, Read, Statement, digest_of, statement_of
from service.ledger import ERASURE, LANES, Head, Link, Written, beginning

PAGE: Final = 5000
_MOST_UNMARKED: Final = 100_000


class Fault(StrEnum):
    """What can be wrong."""

    # A link is not what its hash says, or not what the next one follows.
    EDITED = "edited"
    DELETED = "deleted"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TAIL_CUT = "tailCut"
    # The links fit one another and are others than those that were signed.
    REWRITTEN = "rewritten"
    CHECKPOINT_FORGED = "checkpointForged"
    CHECKPOINT_MISSING = "checkpointMissing"
    # The access entry is not what its link commits to.
    WORDS_CHANGED = "wordsChanged"
    WORDS_MISSING = "wordsMissing"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault and where it is: a lane and a place in it, or for a checkpoint its number and no lane."""

    fault: Fault
    lane: int | None
    seq: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it: how much was looked at, and the first fault of each lane and of the checkpoints."""

    links: int
    checkpoints: int
    findings: tuple[Finding, ...]


class ChainStore(Protocol):
    """The chain's storage as whoever checks it reads it."""

    async def heads(self, lanes: Collection[int]) -> Mapping[int, Head]:
        """Where lanes end."""

    async def links(self, lane: int, first: int, last: int, limit: int) -> Sequence[Link]:
        """Links of a lane from one place to another, in order."""

    async def words(self, lane: int, first: int, last: int, limit: int) -> Sequence[Written]:
        """Access entries that say they are at these places, in order."""

    async def last_words(self, lane: int) -> int:
        """The last place of a lane at which an access entry says it is; 0 for none."""

    async def unchained(self, limit: int) -> Sequence[Written]:
        """Access entries that say they have no place, oldest first."""

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        """Checkpoints behind a number, in order."""


@dataclass(slots=True)
class _Signed:
    """What was signed of each lane: hashes by place; and the newest number."""

    heads: dict[int, dict[int, bytes]] = field(default_factory=lambda: {lane: {} for lane in range(LANES)})
    number: int = 0
    count: int = 0

    def add(self, statement: Statement) -> None:
        for lane, head in statement.heads.items():
            if head.seq:
                self.heads.setdefault(lane, {})[head.seq] = head.hash


@dataclass(slots=True)
class _Lane:
    """How far along a lane one is. `absent`: links without words, by subject; `erased`: subjects that were erased."""

    lane: int
    signed: Mapping[int, bytes]
    head: Head
    before: Link | None = None
    agreed: int = 0
    changed: int | None = None
    absent: defaultdict[bytes, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    erased: set[bytes] = field(default_factory=set)


class LedgerChecks:
    """Checking everything there is."""

    def __init__(self, store: ChainStore, read: Read) -> None:
        """`read` gives the claims of a checkpoint that is genuine."""
        self._store = store
        self._read = read

    async def check(self, exported: Iterable[Checkpoint], progress: Callable[[int, int], None]) -> Checked:
        """Look at every link, its words and every checkpoint, those that were exported before included.

        `progress` is told how many links were looked at, and of how many. Refuses as storage does.
        """
        findings: list[Finding] = []
        signed = await self._signed(exported, findings)
        # Read after the checkpoints, so that no checkpoint can be ahead of them.
        heads = await self._store.heads(range(LANES))
        total, done = sum(head.seq for head in heads.values()), 0
        progress(0, total)
        for number in range(LANES):
            lane = _Lane(number, signed.heads[number], beginning(number))
            fault: Finding | None = None
            while fault is None and lane.head.seq < heads[number].seq:
                fault, seen = await self._page(lane, heads[number].seq)
                done += seen
                progress(done, total)
            found = [fault or await self._end(lane), await self._missing(lane)]
            if lane.changed is not None:
                found.append(Finding(Fault.WORDS_CHANGED, number, lane.changed))
            faults = sorted((one for one in found if one is not None), key=lambda one: one.seq)
            findings += faults[:1]
        return Checked(done, signed.count, tuple(findings))

    async def _signed(self, exported: Iterable[Checkpoint], findings: list[Finding]) -> _Signed:
        """What all genuine checkpoints say; the first that is not, or is not there, is a finding."""
        signed, before = _Signed(), None
        fault: Finding | None = None
        while page := await self._store.checkpoints(signed.number, 1000):
            for checkpoint in page:
                fault = fault or self._judge(checkpoint, before, signed)
                before, signed.number = checkpoint, checkpoint.number
                signed.count += 1
        for checkpoint in exported:
            statement = statement_of(checkpoint.signed, self._read)
            if statement is None or statement.number != checkpoint.number:
                fault = fault or Finding(Fault.CHECKPOINT_FORGED, None, checkpoint.number)
                continue
            if statement.number > signed.number:
                fault = fault or Finding(Fault.CHECKPOINT_MISSING, None, signed.number + 1)
            signed.add(statement)
            signed.count += 1
        findings += [fault] if fault else []
        return signed

    def _judge(self, checkpoint: Checkpoint, before: Checkpoint | None, signed: _Signed) -> Finding | None:
        expected = before.number + 1 if before else 1
        if checkpoint.number != expected:
            return Finding(Fault.CHECKPOINT_MISSING, None, expected)
        statement = statement_of(checkpoint.signed, self._read)
        genuine = statement is not None and statement.number == expected and statement.previous == digest_of(before)
        if statement is None or not genuine:
            return Finding(Fault.CHECKPOINT_FORGED, None, expected)
        signed.add(statement)
        return None

    async def _page(self, lane: _Lane, end: int) -> tuple[Finding | None, int]:
        """Go along some links of a lane."""
        first = lane.head.seq + 1
        # The one before is asked for again: a second link at its place would otherwise lie between two pages.
        links = await self._store.links(lane.lane, max(1, first - 1), end, PAGE)
        links = [link for link in links if lane.before is None or link.commitment != lane.before.commitment]
        if not links:
            return Finding(Fault.DELETED, lane.lane, first), 0
        words: dict[int, list[Written]] = {}
        for written in await self._store.words(lane.lane, first, links[-1].seq, 2 * PAGE):
            words.setdefault(written.seq or 0, []).append(written)
        for seen, link in enumerate(links):
            expected = lane.head.seq + 1
            if link.seq != expected or link.previous != lane.head.hash or link.hash != link.hash_at(expected):
                return self._fault(lane, link, end), seen
            known = lane.signed.get(expected)
            if known is not None and known != link.hash:
                return Finding(Fault.REWRITTEN, lane.lane, lane.agreed + 1), seen
            lane.agreed = expected if known else lane.agreed
            self._beside(lane, link, words.get(expected, ()))
            lane.head, lane.before = Head(expected, link.hash), link
        return None, len(links)

    def _beside(self, lane: _Lane, link: Link, words: Sequence[Written]) -> None:
        """Look at the words of a link."""
        if link.action == ERASURE:
            lane.erased.add(link.subject)
            lane.absent.pop(link.subject, None)
        if not words:
            if link.subject not in lane.erased:
                lane.absent[link.subject].append((link.seq, link.commitment))
        elif lane.changed is None and not all(link.tells_of(written) for written in words):
            lane.changed = link.seq

    def _fault(self, lane: _Lane, link: Link, end: int) -> Finding:
        """What it is, when a link is not the one that should follow."""
        expected, before = lane.head.seq + 1, lane.before
        if link.seq > expected:
            return Finding(Fault.DELETED, lane.lane, expected)
        behind_the_same = before is not None and link.previous == before.previous
        if behind_the_same:
            # This one and the one before it both follow the same link, so one of them came in between.
            return Finding(Fault.INSERTED, lane.lane, before.seq if before else expected)
        if link.seq < expected:
            return Finding(Fault.INSERTED, lane.lane, link.seq)
        if link.hash == link.hash_at(expected):
            # Whole in itself, and it follows another than the one that is there.
            return Finding(Fault.EDITED, lane.lane, expected if lane.agreed == expected - 1 else expected - 1)
        moved = any(link.hash == link.hash_at(seq) for seq in range(1, end + 1))
        return Finding(Fault.REORDERED if moved else Fault.EDITED, lane.lane, expected)

    async def _end(self, lane: _Lane) -> Finding | None:
        """Whether a lane ends where it was signed, or an entry says, that it goes on."""
        told = await self._store.last_words(lane.lane)
        # Asked after that: a link is there before its entry says so.
        now = (await self._store.heads([lane.lane]))[lane.lane].seq
        if max(told, *lane.signed, 0) > now:
            return Finding(Fault.TAIL_CUT, lane.lane, now + 1)
        return None

    async def _missing(self, lane: _Lane) -> Finding | None:
        """The first link whose words are gone though nobody was erased."""
        if not lane.absent:
            return None
        # It may just have been put into the chain, and not be marked yet, or be marked or erased since.
        erased = await self._erased_since(lane)
        waiting = {written.commitment() for written in await self._store.unchained(_MOST_UNMARKED)}
        left = [(*link, subject) for subject, links in lane.absent.items() for link in links]
        for seq, commitment, subject in sorted(left):
            if subject in erased:
                continue
            if commitment not in waiting and not await self._store.words(lane.lane, seq, seq, 1):
                return Finding(Fault.WORDS_MISSING, lane.lane, seq)
        return None

    async def _erased_since(self, lane: _Lane) -> set[bytes]:
        """The subjects that were erased while the lane was looked at."""
        now = (await self._store.heads([lane.lane]))[lane.lane].seq
        since = await self._store.links(lane.lane, lane.head.seq + 1, now, _MOST_UNMARKED)
        return {link.subject for link in since if link.action == ERASURE}
