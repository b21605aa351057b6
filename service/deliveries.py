"""Sending what was posted: a message is claimed, handed once to the gateway of its channel, and settled.

True here: a claim is a lease with a fence, so that whoever comes late settles nothing, also where the clocks of two machines
differ; a try that was cut off is repeated only where the provider tells repeats; whatever becomes of its tries, a message
ends sent, dead or uncertain, and one that cannot be read ends dead. Never here: a message text in a log, or a second try of
something that may have arrived at a provider who would send it twice.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, get_args

import structlog

from service.clock import Clock
from service.gateways.email import Email, EmailGateway
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.sms import Sms, SmsGateway
from service.notifications import Message, State

# One-time codes have a queue of their own, whatever their channel: somebody is waiting for each, and no bulk of news, however
# slowly it goes out, may be before them.
Queue = Literal["codes", "sms", "email"]
QUEUES: Final[tuple[Queue, ...]] = get_args(Queue)

LEASE: Final = timedelta(seconds=30)
# A provider who has not answered by then may have the message or not. Well within the lease.
SEND_SECONDS: Final = 20.0
# Waits after a failed try; when they are used up the message is dead.
BACKOFF: Final = tuple(timedelta(seconds=s) for s in (2, 10, 60, 300, 1800, 3600))
# A message whose tries were cut off so often may be what cuts them off.
MOST_TRIES: Final = 24

_log = structlog.get_logger("deliveries")


def queue_of(message: Message) -> Queue:
    """Where a message waits for its turn."""
    return "codes" if message.code is not None else message.channel


@dataclass(frozen=True, slots=True)
class Claim:
    """A try at a message, which nobody else has at the same time. `cut_off`: the try before this one ended nobody knows how."""

    message: Message
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A claim of something that cannot be read. `lasting`: by nobody ever; else by whoever has the key it was sealed under."""

    message_id: str
    attempts: int
    fence: int
    lasting: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """How messages stand. `due`: whose time has come; `oldest`: since when the first of them is. Counts end at MOST_COUNTED."""

    due: int
    oldest: datetime | None
    dead: int
    uncertain: int


MOST_COUNTED: Final = 10_000


class DeliveryStore(Protocol):
    """Messages as those see them who send."""

    async def claim(self, queue: Queue, now: datetime, lease: timedelta, limit: int) -> list[Claim | Unreadable]:
        """Take some that are due, or whose lease ran out; those that wait longest first. Others may come in between."""

    async def settle(self, message_id: str, fence: int, state: State, now: datetime, due_at: datetime | None = None) -> None:
        """Say how a try came out, if the claim with this fence is still the last one."""

    async def waiting(self, now: datetime, to: str) -> bool:
        """Whether any message to somebody is due or under way."""

    async def queued(self, now: datetime) -> Queued:
        """How messages stand."""


class Deliveries:
    """Sending."""

    def __init__(self, *, store: DeliveryStore, sms: SmsGateway, email: EmailGateway, clock: Clock) -> None:
        self._store = store
        self._sms = sms
        self._email = email
        self._clock = clock

    async def claim(self, queue: Queue, limit: int) -> Sequence[Claim | Unreadable]:
        """Take up to some messages that are due; each is to be given to `deliver` at once, for its lease runs."""
        return await self._store.claim(queue, self._clock.now(), LEASE, limit)

    async def deliver(self, claim: Claim | Unreadable) -> None:
        """Send one message, or say what else becomes of it.

        Raises what storage refuses; the message then counts as cut off when its lease runs out.
        """
        if isinstance(claim, Unreadable):
            await self._put_aside(claim)
            return
        message = claim.message
        if claim.cut_off and not self._may_repeat(message):
            # A second text is worse than a question: a person has to look.
            await self._settle(message, "uncertain")
        elif message.until is not None and message.until <= self._clock.now():
            await self._settle(message, "dead")
        elif message.suppressed:
            await self._settle(message, "sent")
        else:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._hand_over(message)
        except SendFailed:
            await self._again(message.message_id, message.attempts, message.fence)
        except SendRefused:
            _log.warning("message_refused", message=message.message_id, template=message.template)
            await self._settle(message, "dead")
        except (SendUncertain, TimeoutError):
            await self._unknown(message)
        except Exception as error:  # noqa: BLE001  an adapter at fault must not cost the message, nor be asked in circles
            _log.error("delivery_failed", message=message.message_id, error=type(error).__name__)
            await self._unknown(message)
        else:
            await self._settle(message, "sent")

    async def _hand_over(self, message: Message) -> None:
        if message.channel == "email":
            await self._email.send(
                Email(
                    message_id=message.message_id,
                    to=message.to,
                    template=message.template,
                    subject=message.subject or "",
                    text=message.text,
                    code=message.code,
                )
            )
        else:
            await self._sms.send(
                Sms(
                    message_id=message.message_id,
                    to=message.to,
                    template=message.template,
                    text=message.text,
                    code=message.code,
                    values=message.values,
                    locale=message.locale,
                )
            )

    def _may_repeat(self, message: Message) -> bool:
        if message.suppressed:
            return True
        gateway = self._email if message.channel == "email" else self._sms
        return gateway.deduplicates and message.attempts <= MOST_TRIES

    async def _unknown(self, message: Message) -> None:
        """Nobody knows whether the provider has it."""
        if self._may_repeat(message):
            await self._again(message.message_id, message.attempts, message.fence)
        else:
            await self._settle(message, "uncertain")

    async def _put_aside(self, claim: Unreadable) -> None:
        _log.error("message_unreadable", message=claim.message_id, lasting=claim.lasting)
        if claim.lasting:
            await self._store.settle(claim.message_id, claim.fence, "dead", self._clock.now())
        else:
            await self._again(claim.message_id, claim.attempts, claim.fence)

    async def _settle(self, message: Message, state: State) -> None:
        await self._store.settle(message.message_id, message.fence, state, self._clock.now())

    async def _again(self, message_id: str, attempts: int, fence: int) -> None:
        now = self._clock.now()
        if attempts > len(BACKOFF):
            await self._store.settle(message_id, fence, "dead", now)
        else:
            await self._store.settle(message_id, fence, "due", now, now + BACKOFF[attempts - 1])

    async def waiting(self, to: str) -> bool:
        """Whether any message to somebody is due or under way."""
        return await self._store.waiting(self._clock.now(), to)

    async def queued(self) -> Queued:
        """How messages stand."""
        return await self._store.queued(self._clock.now())
