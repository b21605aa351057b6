"""Messages to people: rendered and stored before the first try to send, sent by the relay.

True here: a message has an id made of its happening and channel, so posting it again posts nothing; a message to nobody is
stored and carried like any other and only the last step, the sending, is left out. Never here: a message text in a log.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from service.clock import Clock
from service.gateways.sms import SendFailed, SendUncertain, Sms, SmsGateway
from service.ids import derived_id
from service.locale import Locale, text

State = Literal["due", "sending", "sent", "dead", "uncertain"]

LEASE: Final = timedelta(seconds=30)
# A provider who has not answered by then may have the message or not. Well within the lease.
SEND_SECONDS: Final = 20.0
# Waits after a failed try; when they are used up the message is dead.
BACKOFF: Final = tuple(timedelta(seconds=s) for s in (2, 10, 60, 300, 1800, 3600))


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should be told. `happening` names it for good; `to` is a mobile; after `until` it is no use."""

    happening: str
    template: str
    to: str
    locale: Locale
    values: Mapping[str, object]
    suppressed: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A rendered message on its way. `fence` grows with every claim, so that a late worker changes nothing."""

    message_id: str
    to: str
    template: str
    text: str
    code: str | None
    suppressed: bool
    attempts: int
    fence: int
    until: datetime | None = None


class MessageStore(Protocol):
    """Where messages are kept."""

    async def add(self, message: Message, now: datetime) -> None:
        """Keep a message that is due now; one with the same id is already kept and stays as it is."""

    async def claim(self, now: datetime, lease: timedelta) -> tuple[Message, bool] | None:
        """Take the message that is due longest, or whose lease ran out; the flag says a try was cut off."""

    async def settle(self, message: Message, state: State, now: datetime, due_at: datetime | None = None) -> None:
        """Say how a try came out, if the claim is still this one."""

    async def waiting(self, now: datetime, to: str) -> bool:
        """Whether any message to somebody is due or under way."""


class Notifications:
    """Posting and sending."""

    def __init__(self, store: MessageStore, sms: SmsGateway, clock: Clock) -> None:
        self._store = store
        self._sms = sms
        self._clock = clock
        # Set whenever there may be something to send, so that nobody waits for the next poll.
        self.posted = asyncio.Event()

    async def post(self, notice: Notice) -> None:
        """Render and store; returns when it is safe. Posting the same happening again changes nothing."""
        code = notice.values.get("code")
        message = Message(
            message_id=derived_id("msg", notice.happening, "sms"),
            to=notice.to,
            template=notice.template,
            text=text(notice.locale, f"messages.{notice.template}", **notice.values),
            code=str(code) if code is not None else None,
            suppressed=notice.suppressed,
            attempts=0,
            fence=0,
            until=notice.until,
        )
        await self._store.add(message, self._clock.now())
        self.posted.set()

    async def send_next(self) -> bool:
        """Send one message that is due; False when none is.

        A try that was cut off is repeated only where the provider tells repeats; elsewhere it stays `uncertain`, for a
        person to look at: a second text is worse than a question.
        """
        claimed = await self._store.claim(self._clock.now(), LEASE)
        if claimed is None:
            return False
        # Where one was due there may be more, and this one may take long.
        self.posted.set()
        message, cut_off = claimed
        if cut_off and not message.suppressed and not self._sms.deduplicates:
            await self._store.settle(message, "uncertain", self._clock.now())
            return True
        if message.until is not None and message.until <= self._clock.now():
            await self._store.settle(message, "dead", self._clock.now())
            return True
        try:
            if not message.suppressed:
                sms = Sms(message.message_id, message.to, message.template, message.text, message.code)
                async with asyncio.timeout(SEND_SECONDS):
                    await self._sms.send(sms)
        except SendFailed:
            await self._again(message)
        except (SendUncertain, TimeoutError):
            if self._sms.deduplicates:
                await self._again(message)
            else:
                await self._store.settle(message, "uncertain", self._clock.now())
        else:
            await self._store.settle(message, "sent", self._clock.now())
        return True

    async def _again(self, message: Message) -> None:
        now = self._clock.now()
        if message.attempts > len(BACKOFF):
            await self._store.settle(message, "dead", now)
        else:
            await self._store.settle(message, "due", now, now + BACKOFF[message.attempts - 1])

    async def waiting(self, to: str) -> bool:
        """Whether any message to somebody is due or under way."""
        return await self._store.waiting(self._clock.now(), to)
