"""News of e-cards: people hear when somebody applied in their name, when theirs begins to pay, and when a password changed.

True here: the news was written with the change itself and is carried by the relay, so none is lost and carrying it again tells
nobody anything. Never here: the words, and who may do without them; that is the table in service/announcements.py.
"""

from collections.abc import Sequence
from functools import partial

from service.announcements import Announcement, Topic
from service.ecards import EcardStore, News
from service.errands import Errand
from service.holders import HolderStore
from service.notifications import Notifications


class EcardNews:
    """Errands: tells people of their e-cards."""

    def __init__(self, store: EcardStore, notifications: Notifications, holders: HolderStore) -> None:
        self._store = store
        self._notifications = notifications
        self._holders = holders

    async def undone(self, limit: int) -> Sequence[Errand]:
        """News that nobody has carried yet; each may be carried as often as need be."""
        return [Errand(news.news_id, partial(self._carry, news)) for news in await self._store.news(limit)]

    async def _carry(self, news: News) -> None:
        holder = await self._holders.holder(news.tell)
        if holder is not None:
            await self._notifications.tell(holder, Announcement(news.news_id, Topic(news.name), news.locale))
        await self._store.carried(news)
