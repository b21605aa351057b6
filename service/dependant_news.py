"""News of links between guardians and dependants: both hear when one is made, and when one is ended.

True here: the news was written with the link itself and is carried by the relay, so none is lost; both hear, each in words of
their own, and a dependant without a mobile is told as far as they can be. Never here: who the other is; both know that, and a
message may be read by others. A link that runs out on a birthday is no news: its last day was shown from the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol

from service.announcements import Announcement, Topic
from service.errands import Errand
from service.holders import HolderStore
from service.ids import DependantId, HolderId
from service.locale import Locale
from service.notifications import Notifications

Turn = Literal["linked", "ended"]

# What the guardian hears, and what the dependant.
_TOPICS: Final[Mapping[Turn, tuple[Topic, Topic]]] = {
    "linked": (Topic.DEPENDANT_LINKED, Topic.GUARDIAN_LINKED),
    "ended": (Topic.DEPENDANT_ENDED, Topic.GUARDIAN_ENDED),
}


@dataclass(frozen=True, slots=True)
class DependantNews:
    """What became of a link, for both to hear."""

    news_id: str
    dependant_id: DependantId
    guardian_id: HolderId
    holder_id: HolderId
    turn: Turn
    locale: Locale


class DependantNewsStore(Protocol):
    """Links as those see them who tell of them."""

    async def news(self, limit: int) -> list[DependantNews]:
        """Some that nobody has carried yet."""

    async def carried(self, news: DependantNews) -> None:
        """Take one off its link; taking it off again changes nothing."""


class DependantErrands:
    """Errands: tells guardian and dependant."""

    def __init__(self, store: DependantNewsStore, notifications: Notifications, holders: HolderStore) -> None:
        self._store = store
        self._notifications = notifications
        self._holders = holders

    async def undone(self, limit: int) -> Sequence[Errand]:
        """News that nobody has carried yet; each may be carried as often as need be."""
        return [Errand(news.news_id, partial(self._carry, news)) for news in await self._store.news(limit)]

    async def _carry(self, news: DependantNews) -> None:
        for hearer, topic in zip((news.guardian_id, news.holder_id), _TOPICS[news.turn], strict=True):
            holder = await self._holders.holder(hearer)
            if holder is not None:
                await self._notifications.tell(holder, Announcement(f"{news.news_id}:{topic}", topic, news.locale))
        await self._store.carried(news)
