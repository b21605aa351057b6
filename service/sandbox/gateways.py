"""Other people's systems as the sandbox plays them: messages that can be looked up, faces that are always right.

True here: both fail when an integrator asked them to, so that failures can be seen before they happen. Never here: anything
that leaves the process for a real network.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from service.clock import Clock
from service.errors import Refusal
from service.gateways.email import Email
from service.gateways.face import Certificate
from service.gateways.sending import SendFailed, SendUncertain
from service.gateways.sms import Sms
from service.ids import new_id

Gateway = Literal["sms", "face", "email", "upstream"]
Fault = Literal["unavailable", "slow", "rejected", "uncertain", "stale", "wrong", "away"]
# What can go wrong at those who send or verify, and at those who keep books.
FAULTS: Final[tuple[Fault, ...]] = ("unavailable", "slow", "rejected", "uncertain")
BOOK_FAULTS: Final[tuple[Fault, ...]] = ("unavailable", "away", "slow", "stale", "wrong")

SLOW_SECONDS: Final = 3.0
REFERENCE: Final = "face"
_RETRY_AFTER: Final = 2


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it arrived. `to` is a mobile or an email address, as `channel` says."""

    message_id: str
    channel: Literal["sms", "email"]
    to: str
    template: str
    text: str
    code: str | None
    sent_at: datetime


class FaultStore(Protocol):
    """Where the failures are kept that were asked for."""

    async def take_fault(self, gateway: Gateway, among: tuple[Fault, ...]) -> Fault | None:
        """The fault of this call, if one of these was asked for and is not used up; counts it."""


class SentStore(FaultStore, Protocol):
    """Where sent messages are kept."""

    async def keep(self, sent: Sent) -> None:
        """Keep a message; one with the same id is already kept and stays as it is."""


class SandboxSms:
    """SmsGateway that keeps what it is given. A message offered again is the same message."""

    deduplicates = True

    def __init__(self, store: SentStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def send(self, sms: Sms) -> None:
        """Keep the message. Raises SendFailed or SendUncertain on demand; an uncertain one did arrive."""
        sent = Sent(sms.message_id, "sms", sms.to, sms.template, sms.text, sms.code, self._clock.now())
        await _keep(self._store, self._clock, "sms", sent)


class SandboxEmail:
    """EmailGateway that keeps what it is given. A letter offered again is the same letter."""

    deduplicates = True

    def __init__(self, store: SentStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def send(self, email: Email) -> None:
        """Keep the letter, without its subject. Raises SendFailed or SendUncertain on demand; an uncertain one did arrive."""
        sent = Sent(email.message_id, "email", email.to, email.template, email.text, email.code, self._clock.now())
        await _keep(self._store, self._clock, "email", sent)


async def _keep(store: SentStore, clock: Clock, gateway: Literal["sms", "email"], sent: Sent) -> None:
    fault = await store.take_fault(gateway, FAULTS)
    if fault in {"unavailable", "rejected"}:
        raise SendFailed
    if fault == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    # A slow one is there when it is there.
    await store.keep(replace(sent, sent_at=clock.now()))
    if fault == "uncertain":
        raise SendUncertain


class SandboxFace:
    """FaceGateway in which everybody's face is right, unless `rejected` was asked for."""

    def __init__(self, store: FaultStore, public_url: str) -> None:
        self._store = store
        self._public_url = public_url.rstrip("/")

    async def initialize(self, verification_id: str) -> Certificate:  # noqa: ARG002  the provider's side of it is empty
        """Begin a certification. Refuses with `unavailable` on demand."""
        # A rejection is about a face, so it waits for the call that asks about one.
        await self._call(("unavailable", "slow", "uncertain"))
        reference = new_id(REFERENCE)
        return Certificate(reference, f"{self._public_url}/sandbox/face/{reference}")

    async def passed(self, reference: str) -> bool:  # noqa: ARG002  every face is right
        """Whether the face was right. Refuses with `unavailable` on demand."""
        return await self._call(FAULTS) != "rejected"

    async def _call(self, among: tuple[Fault, ...]) -> Fault | None:
        fault = await self._store.take_fault("face", among)
        if fault in {"unavailable", "uncertain"}:
            raise Refusal("unavailable", retry_after=_RETRY_AFTER)
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        return fault
