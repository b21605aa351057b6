"""The relay: carries what happened to cards to the people who should hear of it, and does what else is left to be done.

True here: a happening was written with the change itself, so none is lost; carrying it twice posts it once; a stop at any
point leaves only work that is found again. It is polled; a wake-up merely spares the wait. Never here: a decision about a
card.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from service.announcements import TEMPLATES
from service.errors import Refusal
from service.holders import HolderStore
from service.ids import CardId, HolderId
from service.locale import Locale
from service.notifications import Notice, Notifications

POLL_SECONDS: Final = 1.0
SIDE_BY_SIDE: Final = 8
MOST_AT_ONCE: Final = 32
# A send that is cut off is one whose fate nobody knows, so a stop waits a little.
ENDING_SECONDS: Final = 5.0

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


class Errands(Protocol):
    """A noun whose decisions have effects beyond their own document, should a process die before it came to them."""

    async def undone(self, limit: int) -> Sequence[Callable[[], Awaitable[object]]]:
        """Some that are to be done, each as work to be called; doing one again changes nothing."""


class Relay:
    """One loop a process; any number of processes."""

    def __init__(
        self, outbox: OutboxStore, notifications: Notifications, holders: HolderStore, errands: Sequence[Errands]
    ) -> None:
        self._outbox = outbox
        self._notifications = notifications
        self._holders = holders
        self._errands = errands
        self._wake = notifications.posted

    def wake(self) -> None:
        """There is something to do now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; what is being sent then gets ENDING_SECONDS. What fails is logged and tried again later."""
        senders: set[asyncio.Task[None]] = set()
        over = asyncio.Event()
        try:
            while True:
                self._wake.clear()
                carried = await _tried(self.carry())
                # A slow send takes a place and holds up nothing else; whoever claims a message calls for another.
                if len(senders) < SIDE_BY_SIDE:
                    sender = asyncio.get_running_loop().create_task(self._send_what_is_due(over))
                    senders.add(sender)
                    sender.add_done_callback(senders.discard)
                if not carried:
                    await self._rest()
        finally:
            over.set()
            await _end(list(senders))

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def carry(self) -> bool:
        """Do some errands and post some of what waits; True when anything was. What fails stays, and holds up no other."""
        ran = [await _tried(self._run(errands)) for errands in self._errands]
        happenings = await self._outbox.uncarried(MOST_AT_ONCE)
        return any(ran + [await _tried(self._carry(happening)) for happening in happenings])

    async def _run(self, errands: Errands) -> bool:
        return any([await _tried(_done(errand)) for errand in await errands.undone(MOST_AT_ONCE)])

    async def _carry(self, happening: Happening) -> bool:
        template = TEMPLATES.get(happening.name)
        holder = await self._holders.holder(happening.tell) if template else None
        if template and holder and holder.mobile:
            await self._notifications.post(Notice(happening.happening_id, template, holder.mobile, happening.locale, {}))
        await self._outbox.carried(happening)
        return True

    async def _send_what_is_due(self, over: asyncio.Event) -> None:
        while not over.is_set() and await _tried(self._notifications.send_next()):
            pass

    async def settled(self, to: str, seconds: float) -> None:
        """Return when nothing to somebody waits any more, or after some seconds: for those who must see what was sent."""
        self.wake()
        try:
            async with asyncio.timeout(seconds):
                while await self._waiting(to):
                    self.wake()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return

    async def _waiting(self, to: str) -> bool:
        for errands in self._errands:
            if await errands.undone(1):
                return True
        return await self._outbox.waiting() or await self._notifications.waiting(to)


async def _done(errand: Callable[[], Awaitable[object]]) -> bool:
    await errand()
    return True


async def _tried(work: Coroutine[Any, Any, bool]) -> bool:
    """Whether there was anything to do; False when it failed, whatever that one message or happening did to it."""
    try:
        return await work
    except Refusal as refusal:
        _log.warning("relay_waits", code=refusal.code)
    except Exception as error:  # noqa: BLE001  the loop must outlive it
        _log.error("relay_failed", error=type(error).__name__)
    return False


async def _end(senders: list[asyncio.Task[None]]) -> None:
    if senders:
        await asyncio.wait(senders, timeout=ENDING_SECONDS)
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
