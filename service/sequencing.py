"""Sequencing: one process at a time takes access entries that are not in the chain yet and puts them there, in batches.

True here: who leads is settled by a lease that its holder keeps alive by counting up; others take over when the count has
stood still for LEASE_SECONDS of their own monotonic clock, so clocks that differ do no harm. A leader who is late can spoil
nothing: a place in a lane is taken once, a link is followed by one link, and an access entry becomes one link, each by a
unique index. So a stop between appending and marking repeats nothing. What somebody's erasure is about is deleted once the
chain holds the erasure. Never here: work that a request waits for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from service.checkpoints import Checkpoint, Sign, links_in, state
from service.clock import Clock
from service.errors import Refusal
from service.ids import HolderId, new_id
from service.ledger import ERASURE, LANES, Head, Link, Written, link

BATCH: Final = 1000
POLL_SECONDS: Final = 1.0
# A leader counts up before every turn; when the count has stood still this long, somebody else leads.
LEASE_SECONDS: Final = 10.0
# A checkpoint after so many links, or after so long when there is any new one.
CHECKPOINT_LINKS: Final = 10_000
CHECKPOINT_AFTER: Final = timedelta(minutes=5)
_RELEASE_SECONDS: Final = 2.0
_ERASURES_AT_ONCE: Final = 20

_log = structlog.get_logger("ledger")


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads: nobody when `owner` is None. `fence` grows with every leader, `beat` while one is alive."""

    owner: str | None
    fence: int
    beat: int


class SequencerStore(Protocol):
    """The chain's storage as the sequencer needs it."""

    async def lease(self) -> Lease:
        """The lease as it is now."""

    async def take_lease(self, seen: Lease, owner: str) -> bool:
        """Lead from now on, with the next fence, if the lease is still as it was seen."""

    async def keep_lease(self, owner: str, fence: int) -> bool:
        """Count up; False when somebody else leads."""

    async def release_lease(self, owner: str, fence: int) -> None:
        """Lead no more, if it is this one who leads."""

    async def unchained(self, limit: int) -> Sequence[Written]:
        """Access entries that have no place in the chain, oldest first, each with its nonce."""

    async def secrets(self, holder_ids: Collection[HolderId]) -> Mapping[HolderId, bytes]:
        """The secrets of people, made where there are none."""

    async def heads(self, lanes: Collection[int]) -> Mapping[int, Head]:
        """Where lanes end."""

    async def append(self, links: Sequence[Link]) -> bool:
        """Add links of one lane one after the other, up to the first whose place or access entry is taken; whether all were."""

    async def places(self, commitments: Collection[bytes]) -> Mapping[bytes, int]:
        """Where in its lane each of these is, of those that are in the chain."""

    async def mark(self, placed: Sequence[tuple[Written, int]]) -> None:
        """Write into access entries where they are in the chain."""

    async def last_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""

    async def add_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Keep a checkpoint; False when its number is taken."""

    async def erasures(self, limit: int) -> Sequence[Written]:
        """The chained entries of erasures that are not done yet."""

    async def erase(self, erasure: Written) -> bool:
        """Delete what was said about a person, then their secret, then the erasure's entry.

        False when something about them is not in the chain yet: then only what is, is gone.
        """


class Sequencer:
    """One loop a process; of any number of processes one leads."""

    def __init__(self, store: SequencerStore, sign: Sign, clock: Clock) -> None:
        self._store = store
        self._sign = sign
        self._clock = clock
        self._owner = new_id("seq")
        self._fence: int | None = None
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of what an earlier leader, or an earlier try of our own, has come to."""
        self._unsure = True
        self._erasing = True
        self._new_links: int | None = None

    async def run(self) -> None:
        """Work until cancelled, and then let others lead at once. What fails is logged and tried again."""
        try:
            while True:
                if not await self._tried():
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            if self._fence is not None:
                with suppress(Refusal, TimeoutError):
                    async with asyncio.timeout(_RELEASE_SECONDS):
                        await self._store.release_lease(self._owner, self._fence)

    async def _tried(self) -> bool:
        try:
            return await self.leads() and await self.turn()
        except Refusal as refusal:
            _log.warning("ledger_waits", code=refusal.code)
        except Exception as error:  # noqa: BLE001  the loop must outlive it
            _log.error("ledger_failed", error=type(error).__name__)
        self._begin()
        return False

    async def leads(self) -> bool:
        """Whether this process leads now; it begins to when nobody does."""
        now = asyncio.get_running_loop().time()
        if self._fence is not None:
            if await self._store.keep_lease(self._owner, self._fence):
                return True
            self._fence = None
        lease = await self._store.lease()
        if lease != self._seen:
            self._seen, self._seen_at = lease, now
        if lease.owner is not None and now - self._seen_at < LEASE_SECONDS:
            return False
        if not await self._store.take_lease(lease, self._owner):
            return False
        self._fence = lease.fence + 1
        self._begin()
        _log.info("ledger_led", fence=self._fence)
        return True

    async def turn(self) -> bool:
        """Put a batch into the chain, and see to erasures and checkpoints; whether a whole batch was put there."""
        waiting = await self._store.unchained(BATCH)
        if waiting:
            await self._chain(waiting)
        if self._erasing:
            await self._erase()
        await self._checkpoint()
        return bool(waiting) and not self._unsure

    async def _chain(self, waiting: Sequence[Written]) -> None:
        commitments = {written.commitment(): written for written in waiting}
        if self._unsure:
            # Some may be in the chain and not marked, because whoever put them there was stopped.
            there = await self._store.places(commitments)
            await self._store.mark([(commitments.pop(commitment), seq) for commitment, seq in there.items()])
        self._unsure = True
        lanes: defaultdict[int, list[Written]] = defaultdict(list)
        for written in commitments.values():
            lanes[written.lane].append(written)
        heads = await self._store.heads(lanes)
        secrets = await self._store.secrets({written.holder_id for written in commitments.values()})
        done = await asyncio.gather(*(self._append(some, heads[lane], secrets) for lane, some in lanes.items()))
        await self._store.mark([one for some in done for one in some])
        # What was not appended found its place taken: another leads, or did until now.
        self._unsure = sum(map(len, done)) < len(commitments)
        self._erasing |= any(written.access.action == ERASURE for written in waiting)
        if self._new_links is not None:
            self._new_links += sum(map(len, done))

    async def _append(
        self, some: Sequence[Written], head: Head, secrets: Mapping[HolderId, bytes]
    ) -> list[tuple[Written, int]]:
        """Append entries of one lane behind its head; where they are then, or nothing when not all could be."""
        links: list[Link] = []
        for written in some:
            made = link(written, head, secrets[written.holder_id])
            head = Head(made.seq, made.hash)
            links.append(made)
        if not await self._store.append(links):
            return []
        return [(written, made.seq) for written, made in zip(some, links, strict=True)]

    async def _erase(self) -> None:
        erasures = await self._store.erasures(_ERASURES_AT_ONCE)
        self._erasing = bool(erasures)
        for erasure in erasures:
            await self._store.erase(erasure)

    async def _checkpoint(self) -> None:
        """Sign where the lanes end, when it is time."""
        if self._new_links == 0:
            return
        # The one before is read first: heads only grow, so that a checkpoint never says less than the one before it.
        before, now = await self._store.last_checkpoint(), self._clock.now()
        if self._new_links is None:
            self._new_links = links_in(await self._store.heads(range(LANES))) - (before.links if before else 0)
        if self._new_links <= 0 or (self._new_links < CHECKPOINT_LINKS and not _is_old(before, now)):
            return
        await self._store.add_checkpoint(state(await self._store.heads(range(LANES)), before, now, self._sign))
        # If somebody else was first, theirs is as new.
        self._new_links = 0


def _is_old(before: Checkpoint | None, now: datetime) -> bool:
    return before is None or not timedelta() <= now - before.at < CHECKPOINT_AFTER
