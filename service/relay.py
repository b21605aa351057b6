"""The relay: carries what happened to cards to who should hear of it, does what else is left to be done, and sends messages.

True here: a happening was written with the change itself, so none is lost; carrying it twice posts it once; a stop at any
point leaves only work that is found again. It is polled; a wake-up merely spares the wait. Happenings, errands and each queue
of messages go on by themselves, a bounded number side by side, so that what is slow or fails holds up nothing else and is
left alone for a while; what happened to one card is heard in that order. Never here: a decision about a card.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Final, Protocol

import structlog

from service.clock import Clock
from service.deliveries import QUEUES, Claim, Deliveries, Queue, Unreadable
from service.errands import Errands
from service.errors import Refusal
from service.ids import CardId, HolderId
from service.locale import Locale
from service.retries import Retries
from service.rounds import Round, pause, rest, tried

# Messages of one queue that a process has at a provider at once.
SIDE_BY_SIDE: Final = 16
# Happenings, or errands of one noun, that are dealt with at once.
MOST_AT_ONCE: Final = 64
# A few times as many are looked at, and some of them taken, so that several processes seldom take the same.
_LOOKED_AT: Final = 4 * MOST_AT_ONCE
# A send that is cut off is one whose fate nobody knows, so a stop waits a little.
ENDING_SECONDS: Final = 5.0
_SETTLE_LOOK_SECONDS: Final = 0.02
# Between two looks that found nothing, however often somebody calls; errands are mostly done by who decided on them.
_BREATH: Final = 0.01
_LONG_BREATH: Final = 0.1
# Where the process answers people, they come first.
SHARE_INSIDE: Final = 0.25

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


@dataclass(frozen=True, slots=True)
class Waiting:
    """Happenings that wait: how many, and since when the first of them does. What is beyond ten thousand is not looked at."""

    happenings: int
    oldest: datetime | None


class OutboxStore(Protocol):
    """Happenings as the cards keep them."""

    async def uncarried(self, limit: int) -> list[Happening]:
        """Those of up to so many cards, in no order."""

    async def carried(self, happenings: Sequence[Happening]) -> None:
        """Take them off their cards; taking one off again changes nothing."""

    async def waiting(self) -> bool:
        """Whether any waits."""

    async def backlog(self) -> Waiting:
        """How many wait, and for how long."""


class Hearer(Protocol):
    """A noun that is to hear of everything that happens to cards."""

    async def hear(self, happening: Happening) -> None:
        """Take note of it; returns when that is safe. Hearing it again changes nothing."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far behind the relay is, for whoever watches it. Counts end at ten thousand.

    `happenings`: changes of cards that wait to be carried. `messages`: those that should have gone out by now.
    `oldest_seconds`: how long the first of both waits. `dead`, `uncertain`: messages that somebody has to look at.
    """

    happenings: int
    messages: int
    oldest_seconds: float
    dead: int
    uncertain: int


class Relay:
    """A few loops a process; any number of processes."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        outbox: OutboxStore,
        hearers: Sequence[Hearer],
        deliveries: Deliveries,
        errands: Sequence[Errands],
        posted: asyncio.Event,
        clock: Clock,
        share: float,
    ) -> None:
        """`hearers` hear of each happening one after the other; `posted` is set when there may be something to send.

        `share`: the part of its time that it may be at it, above 0 and up to 1; what else the process does has the rest.
        """
        self._outbox = outbox
        self._hearers = hearers
        self._deliveries = deliveries
        self._errands = errands
        self._posted = posted
        self._clock = clock
        self._retries = Retries()
        # Each loop has an ear of its own and forgets what it heard when it looks.
        self._pause = partial(pause, 1 / share - 1)
        self._rounds = [
            Round(self.carry, self._pause, _BREATH),
            *(Round(partial(self._run, one), self._pause, _LONG_BREATH) for one in errands),
        ]
        self._queues = {queue: asyncio.Event() for queue in QUEUES}

    def wake(self) -> None:
        """There is something to do now."""
        for round_ in self._rounds:
            round_.ear.set()
        self._posted.set()

    async def run(self) -> None:
        """Work until cancelled; what is being sent then gets ENDING_SECONDS. What fails is logged and tried again later."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        carrying = [loop.create_task(round_.turn()) for round_ in self._rounds]
        carrying.append(loop.create_task(self._pass_on()))
        sending = [loop.create_task(self._send(queue, ear, over)) for queue, ear in self._queues.items()]
        try:
            # None of them ends by itself; should one fail all the same, the others are not to hide it.
            done, _ = await asyncio.wait([*carrying, *sending], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in carrying:
                task.cancel()
            over.set()
            for ear in self._queues.values():
                ear.set()
            await asyncio.wait(sending, timeout=ENDING_SECONDS)
            for task in sending:
                task.cancel()
            await asyncio.gather(*carrying, *sending, return_exceptions=True)

    async def _pass_on(self) -> None:
        """What was posted may be in any queue."""
        while True:
            await self._posted.wait()
            self._posted.clear()
            for ear in self._queues.values():
                ear.set()

    async def carry(self) -> bool:
        """Let some of what waits be heard; True when anything was. What fails stays, and holds up no other."""
        found = await self._outbox.uncarried(_LOOKED_AT + len(self._retries))
        due = [happening for happening in found if not self._retries.rests(happening.happening_id)]
        if len(due) > MOST_AT_ONCE:
            due = random.sample(due, MOST_AT_ONCE)
        by_card: dict[CardId, list[Happening]] = {}
        for happening in sorted(due, key=attrgetter("at")):
            by_card.setdefault(happening.card_id, []).append(happening)
        carried = [one for heard in await asyncio.gather(*map(self._hear_of_card, by_card.values())) for one in heard]
        if carried:
            await self._outbox.carried(carried)
        return bool(carried)

    async def _hear_of_card(self, happenings: Sequence[Happening]) -> list[Happening]:
        """Those that were heard: one after the other, for whoever is told last that a card is locked takes it for locked."""
        return [one for one in happenings if await self._tried(one.happening_id, partial(self._hear, one))]

    async def _hear(self, happening: Happening) -> None:
        for hearer in self._hearers:
            await hearer.hear(happening)

    async def _run(self, errands: Errands) -> bool:
        """Do some errands of one noun; True when anything was done."""
        found = await errands.undone(MOST_AT_ONCE + len(self._retries))
        due = [errand for errand in found if not self._retries.rests(errand.errand_id)][:MOST_AT_ONCE]
        return any(await asyncio.gather(*(self._tried(errand.errand_id, errand.do) for errand in due)))

    async def _tried(self, name: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Whether it was done. What was not is left alone for a while."""
        try:
            await work()
        except Refusal as refusal:
            # The database is away, or somebody was quicker: it may go at any moment.
            _log.warning("relay_waits", code=refusal.code)
            self._retries.failed(name, in_vain=False)
            return False
        except Exception as error:  # noqa: BLE001  one that is at fault must not take others along
            _log.error("relay_failed", what=name, error=type(error).__name__)
            self._retries.failed(name, in_vain=True)
            return False
        self._retries.done(name)
        return True

    async def _send(self, queue: Queue, ear: asyncio.Event, over: asyncio.Event) -> None:
        """Send what is due in one queue, a few messages side by side, until it is over."""
        loop = asyncio.get_running_loop()
        sends: set[asyncio.Task[bool]] = set()

        def ended(send: asyncio.Task[bool]) -> None:
            sends.discard(send)
            ear.set()

        try:
            while not over.is_set():
                ear.clear()
                begun = loop.time()
                claims = await self._claims(queue, SIDE_BY_SIDE - len(sends))
                for claim in claims:
                    send = loop.create_task(tried(_delivered(self._deliveries, claim)))
                    sends.add(send)
                    send.add_done_callback(ended)
                if not claims:
                    await rest(ear, _BREATH)
                elif queue != "codes":
                    await self._pause(loop.time() - begun)
            if sends:
                await asyncio.wait(sends)
        finally:
            for send in sends:
                send.cancel()
            await asyncio.gather(*sends, return_exceptions=True)

    async def _claims(self, queue: Queue, room: int) -> Sequence[Claim | Unreadable]:
        """What there is room for; nothing while the database does not say."""
        claims: Sequence[Claim | Unreadable] = ()

        async def claim() -> bool:
            nonlocal claims
            claims = await self._deliveries.claim(queue, room)
            return True

        if room > 0:
            await tried(claim())
        return claims

    async def backlog(self) -> Backlog:
        """How far behind it all is, read from the database; cheap enough for whoever collects metrics."""
        waiting, queued = await asyncio.gather(self._outbox.backlog(), self._deliveries.queued())
        moments = [moment for moment in (waiting.oldest, queued.oldest) if moment is not None]
        oldest = (self._clock.now() - min(moments)).total_seconds() if moments else 0.0
        return Backlog(waiting.happenings, queued.due, max(0.0, oldest), queued.dead, queued.uncertain)

    async def settled(self, to: str, seconds: float) -> None:
        """Return when nothing to somebody waits any more, or after some seconds: for those who must see what was sent.

        Whoever carries, this process or another: it looks at what is left to be done.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self.wake()
                while await self._waiting(to):
                    self.wake()
                    await asyncio.sleep(_SETTLE_LOOK_SECONDS)

    async def _waiting(self, to: str) -> bool:
        for errands in self._errands:
            if await errands.undone(1):
                return True
        return await self._outbox.waiting() or await self._deliveries.waiting(to)


async def _delivered(deliveries: Deliveries, claim: Claim | Unreadable) -> bool:
    await deliveries.deliver(claim)
    return True
