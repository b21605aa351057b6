"""What a city said last of somebody: shown in its place while it does not answer, and said to be that.

True here: what is shown is never older than what was shown before; it is marked when the city did not confirm it now, or when
it is older than the region calls fresh. Only what was judged good is kept, sealed, and only so long. Never here: an empty
answer in the place of one that is not known.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

import structlog

from service.clock import Clock
from service.errors import Refusal
from service.gateways.upstream import Question, UpstreamAway, UpstreamWrong, Whose
from service.holders import Holder, HolderStore
from service.ids import HolderId
from service.regions import Regions

# Seconds that a reader waits for news when there is something to show.
PATIENCE: Final = 1.0
# And longer than any question lasts when there is nothing.
_MARGIN: Final = 0.5
_RETRY_AFTER: Final = 2
# The pages of one look are of one record.
ONE_LOOK: Final = timedelta(minutes=10)
# Then it says too little to be worth keeping somebody's income.
KEPT: Final = timedelta(days=180)

_log = structlog.get_logger("last_known")


class Dated(Protocol):
    """What is true of a moment."""

    @property
    def as_of(self) -> datetime:
        """The moment."""


RecordT = TypeVar("RecordT", bound=Dated)
TakenT = TypeVar("TakenT")


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that was judged good: of what moment it is true, when it was kept, and for how long it stays."""

    holder_id: HolderId
    question: Question
    as_of: datetime
    kept_at: datetime
    until: datetime
    document: bytes


@dataclass(frozen=True, slots=True)
class Shown(Generic[RecordT]):
    """A record to be shown. `stale`: the city did not confirm it now, or it is older than the region calls fresh."""

    record: RecordT
    stale: bool


class LastKnownStore(Protocol):
    """Where the last known documents are kept, one a person and question."""

    async def last_known(self, holder_id: HolderId, question: Question) -> Kept | None:
        """What was kept last."""

    async def keep(self, kept: Kept) -> None:
        """Put it in the place of an older one; beside a newer one nothing happens."""


class Asking(Protocol):
    """Where the city is asked."""

    @property
    def seconds(self) -> float:
        """The deadline of a question."""

    async def ask(
        self, question: Question, holder_id: HolderId, take: Callable[[bytes, Whose], Awaitable[TakenT]], patience: float
    ) -> TakenT:
        """What `take` made of the answer. Raises UpstreamAway."""


class LastKnown(Generic[RecordT]):
    """Answers to one question about people: from the city, or else from what it said last."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        question: Question,
        read: Callable[[bytes, Whose, datetime], RecordT],
        write: Callable[[RecordT, Whose], bytes],
        *,
        upstream: Asking,
        store: LastKnownStore,
        holders: HolderStore,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._question: Final = question
        self._read = read
        self._write = write
        self._upstream = upstream
        self._store = store
        self._holders = holders
        self._regions = regions
        self._clock = clock

    async def of(self, holder_id: HolderId, *, going_on: bool = False) -> Shown[RecordT]:
        """Somebody's record. `going_on`: with a look that has begun, for which what was just kept will do.

        Refuses with `unavailable` when the city does not answer and nothing is known, and with `token_revoked`.
        """
        holder = await self._holders.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        now = self._clock.now()
        kept = await self._store.last_known(holder_id, self._question)
        if kept is not None and kept.until <= now:
            kept = None
        if kept is not None and going_on and kept.kept_at > now - ONE_LOOK:
            return Shown(self._known(kept, holder), stale=self._is_old(kept, holder, now))
        patience = self._upstream.seconds + _MARGIN if kept is None else PATIENCE
        try:
            told = await self._upstream.ask(self._question, holder_id, self._take, patience)
        except UpstreamAway as away:
            if kept is None:
                raise Refusal("unavailable", retry_after=away.retry_after) from None
            return Shown(self._known(kept, holder), stale=True)
        if kept is not None and kept.as_of > told.as_of:
            # It knew better before.
            return Shown(self._known(kept, holder), stale=True)
        return Shown(told, stale=self._is_old(told, holder, now))

    def _known(self, kept: Kept, holder: Holder) -> RecordT:
        # Read only when it is shown: a long life of work takes some milliseconds.
        now = self._clock.now()
        # As of then: what was no moment of the future when it was kept is none now, wherever the clock has gone since.
        try:
            return self._read(kept.document, Whose(holder.holder_id, holder.id_number), max(now, kept.kept_at))
        except UpstreamWrong as wrong:
            # Of an older version, or of an ID number that was put right since: then nothing is known.
            _log.warning("last_known_unreadable", question=self._question, fault=wrong.fault)
            raise Refusal("unavailable", retry_after=_RETRY_AFTER) from None

    def _is_old(self, record: Dated, holder: Holder, now: datetime) -> bool:
        region = self._regions.by_code.get(holder.region_code)
        return region is None or record.as_of < now - region.policy.figures_old_after

    async def _take(self, document: bytes, whose: Whose) -> RecordT:
        now = self._clock.now()
        record = self._read(document, whose, now)
        if await self._holders.holder(whose.holder_id) is None:
            # Erased while the city was asked: nothing of them is kept any more.
            raise UpstreamAway
        kept = Kept(whose.holder_id, self._question, record.as_of, now, now + KEPT, self._write(record, whose))
        try:
            await self._store.keep(kept)
        except Refusal as refusal:
            # It was learnt all the same, and is shown.
            _log.warning("last_known_not_kept", question=self._question, code=refusal.code)
        return record
