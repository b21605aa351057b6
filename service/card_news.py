"""Card news: people hear what happened to their cards.

True here: what happened says whom to tell, so that a guardian hears what they did; telling it again tells nobody anything.
Never here: which happenings are told, and how; that is the table in service/announcements.py.
"""

from service.announcements import Announcement, topic_of
from service.holders import HolderStore
from service.notifications import Notifications
from service.relay import Happening


class CardNews:
    """Hearer: tells people what happened to their cards."""

    def __init__(self, notifications: Notifications, holders: HolderStore) -> None:
        self._notifications = notifications
        self._holders = holders

    async def hear(self, happening: Happening) -> None:
        """Tell of it, if that is told of; hearing it again tells no more."""
        topic = topic_of(happening.name)
        holder = await self._holders.holder(happening.tell) if topic else None
        if topic and holder:
            await self._notifications.tell(holder, Announcement(happening.happening_id, topic, happening.locale))
