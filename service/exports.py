"""The holder's copy: everything that is kept about them, complete and in plain.

True here: it is made when it is asked for and stored nowhere; it is
written into the log before it is shown, and its holder is told; what is in it is read off one list of all that is kept
(service/mongo/holdings.py). Never here: anything about somebody else, a hash, or a mark.

Source: Personal Information Protection Law, art. 45 (a copy for whom it is about).
"""

from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from service.announcements import Announcement, Topic
from service.errors import Refusal
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import HolderId, new_id
from service.limits import Limit, Limits
from service.locale import Locale
from service.notifications import Notifications

EXPORTS: Final = Limit("exports", 10, timedelta(days=1))
# As many as fit an answer; the rest has pages of its own.
MOST_ACCESSES: Final = 200


@dataclass(frozen=True, slots=True)
class Collected:
    """Records by kind, in plain, as they go out; `partial`: kinds of which there are more."""

    records: Mapping[str, Sequence[Mapping[str, object]]]
    partial: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """A copy. `following`: where the access log goes on, as its list has it."""

    export_id: str
    created_at: datetime
    collected: Collected
    accesses: Sequence[Access]
    following: tuple[datetime, str] | None


class CopyStore(Protocol):
    """Everything that is kept."""

    async def collect(self, holder_id: HolderId) -> Collected:
        """All that is kept about a person but their access log, in plain."""


class Exports:
    """Making copies."""

    def __init__(
        self, *, store: CopyStore, holders: HolderStore, log: AccessLogStore, notifications: Notifications, limits: Limits
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._holders = holders
        self._log = log
        self._limits = limits

    async def make(self, holder_id: HolderId, *, locale: Locale, now: datetime) -> Export:
        """A copy as of now. Refuses with `rate_limited` after EXPORTS; a session level 2 and fresh is the route's to ask."""
        holder = await self._holders.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        await self._limits.hit(EXPORTS, holder_id)
        await self._log.record(holder_id, Access(new_id("acc"), now, "export", "self", "app", None))
        export_id = new_id("exp")
        # Before it is shown, so that nobody is shown it untold.
        await self._notifications.tell(holder, Announcement(export_id, Topic.EXPORTED, locale))
        collected, entries = await gather(self._store.collect(holder_id), self._log.entries(holder_id, None, MOST_ACCESSES + 1))
        page = entries[:MOST_ACCESSES]
        return Export(
            export_id=export_id,
            created_at=now,
            collected=collected,
            accesses=page,
            following=(page[-1].at, page[-1].access_id) if len(entries) > MOST_ACCESSES else None,
        )
