"""The relay: carries what happened to cards to the people who should hear of it.

True here: a happening was written with the change itself, so none is lost; carrying it twice posts it once; a stop at any
point leaves only work that is found again. It is polled; a wake-up merely spares the wait. Never here: a decision about a
card.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog

from service.errors import Refusal
from service.holders import HolderStore
from service.ids import CardId, HolderId
from service.locale import Locale
from service.notifications import Notice, Notifications

POLL_SECONDS: Final = 1.0
SIDE_BY_SIDE: Final = 8

# Which happenings people hear of, and in which words.
TEMPLATES: Final = {"activated": "card_activated"}

_log = structlog.get_logger("relay")


@dataclass(frozen=True, slots=True)
class Happening:
    """One change of a card, waiting to be carried. `tell` is who should hear of it."""

    happening_id: str
    card_id: CardId
    name: str
    at: datetime
    tell: HolderId
    locale: Locale


class OutboxStore(Protocol):
    """Happenings as the cards keep them."""

    async def uncarried(self, limit: int) -> list[Happening]:
        """Some that wait, in no order."""

    async def carried(self, happening: Happening) -> None:
        """Take one off its card; taking it off again changes nothing."""

    async def waiting(self) -> bool:
        """Whether any waits."""


class Relay:
    """One loop a process; any number of processes."""

    def __init__(self, outbox: OutboxStore, notifications: Notifications, holders: HolderStore) -> None:
        self._outbox = outbox
        self._notifications = notifications
        self._holders = holders
        self._wake = notifications.posted

    def wake(self) -> None:
        """There is something to do now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. What fails is logged and tried again at the next turn."""
        while True:
            self._wake.clear()
            try:
                busy = await self.turn()
            except Refusal as refusal:
                _log.warning("relay_waits", code=refusal.code)
                busy = False
                await asyncio.sleep(POLL_SECONDS)
            except Exception as error:  # noqa: BLE001  the loop must outlive whatever one message does to it
                _log.error("relay_failed", error=type(error).__name__)
                busy = False
                await asyncio.sleep(POLL_SECONDS)
            if not busy:
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def turn(self) -> bool:
        """Carry what waits, then send a few messages; True when there was anything to do."""
        happenings = await self._outbox.uncarried(SIDE_BY_SIDE * 4)
        for happening in happenings:
            await self._carry(happening)
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(self._notifications.send_next()) for _ in range(SIDE_BY_SIDE)]
        return bool(happenings) or any(task.result() for task in tries)

    async def _carry(self, happening: Happening) -> None:
        template = TEMPLATES.get(happening.name)
        holder = await self._holders.holder(happening.tell) if template else None
        if template and holder and holder.mobile:
            await self._notifications.post(Notice(happening.happening_id, template, holder.mobile, happening.locale, {}))
        await self._outbox.carried(happening)

    async def settled(self, seconds: float) -> None:
        """Return when nothing waits any more, or after some seconds: for those who must see what was sent."""
        self.wake()
        try:
            async with asyncio.timeout(seconds):
                while await self._outbox.waiting() or await self._notifications.waiting():
                    self.wake()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return
