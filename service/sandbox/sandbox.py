"""The sandbox: a whole service with invented people in it, whose time can be moved and whose neighbours can be made to fail.

True here: a reset brings back everybody as they were, under the ids they had, so whoever is signed in stays signed in, but
for those who signed in at a time that the clock has not reached again; all processes share one clock. Never here: anything
outside a sandbox; the composition root makes this object only there.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from service.clock import Clock
from service.errors import Refusal, invalid
from service.ids import HolderId
from service.limits import Pace
from service.relay import Relay
from service.sandbox.gateways import BOOK_FAULTS, FAULTS, SLOW_SECONDS, Fault, FaultStore, Gateway, Sent, SentStore
from service.sandbox.personas import Person, Persona
from service.sandbox.seeding import FOLLOW_SECONDS, Seeding, SeedingStore

FURTHEST: Final = timedelta(days=3653)
# Long enough for every process to have looked at the stored clock once.
_ALL_FOLLOW_SECONDS: Final = 0.15
# Longer than a gateway that was asked to be slow.
_SETTLE_SECONDS: Final = SLOW_SECONDS + 1
_MOST_MESSAGES: Final = 50

_log = structlog.get_logger("sandbox")


class SandboxStore(SeedingStore, SentStore, FaultStore, Protocol):
    """What a sandbox keeps beside the service's own data, and beside who is put there."""

    async def sent_to(self, to: str, limit: int) -> list[Sent]:
        """What was sent to a mobile, newest first."""

    async def set_fault(self, gateway: Gateway, fault: Fault, times: int) -> None:
        """Let the next calls of a gateway fail, instead of what was asked for before."""

    async def advance_clock(self, seconds: int, furthest: int) -> int | None:
        """Add to the seconds that the clock is ahead; None when that would be too far."""

    async def reset_clock(self) -> int:
        """Set the clock back to now and count a reset; how many there were."""


class Forgetful(Protocol):
    """What remembers something in this process."""

    def forget(self) -> None:
        """Remember nothing."""


class Sandbox:
    """What an integrator may do to the service."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self, *, seeding: Seeding, store: SandboxStore, relay: Relay, pace: Pace, books: Forgetful, clock: Clock
    ) -> None:
        self._seeding = seeding
        self._store = store
        self._relay = relay
        # What this process remembers by the clock that a reset sets back.
        self._memories: tuple[Forgetful, ...] = (pace, books)
        self._clock = clock
        self._resets = 0
        self._one_at_a_time = asyncio.Lock()

    def residents(self) -> dict[HolderId, Person]:
        """The residents among the personas, by id."""
        return self._seeding.residents()

    def personas(self) -> tuple[Persona, ...]:
        """Everybody, with all that is needed to play them."""
        return self._seeding.personas

    async def seed_if_empty(self) -> None:
        """Put the personas there unless they are. Raises NotASandboxError; see Seeding.seed_if_empty."""
        async with self._one_at_a_time:
            await self._seeding.seed_if_empty()
        await self._follow()

    async def reset(self) -> datetime:
        """Everybody as they were, nothing remembered, the clock at now. The moment it was done."""
        if await self._store.is_production():
            raise Refusal("forbidden")
        async with self._one_at_a_time:
            was_ahead, _ = await self._store.clock()
            self._resets = await self._store.reset_clock()
            self._clock.offset = timedelta()
            await self._seeding.put_back()
            self._forget()
            if was_ahead:
                await asyncio.sleep(_ALL_FOLLOW_SECONDS)
            return self._clock.now()

    async def advance(self, seconds: int) -> datetime:
        """Move the clock forward, here and in every process. Refuses with `invalid_request` beyond FURTHEST."""
        ahead = await self._store.advance_clock(seconds, int(FURTHEST.total_seconds()))
        if ahead is None:
            raise invalid("advanceSeconds", "not_allowed")
        self._clock.offset = timedelta(seconds=ahead)
        if seconds:
            await asyncio.sleep(_ALL_FOLLOW_SECONDS)
        return self._clock.now()

    @property
    def ahead(self) -> timedelta:
        """How far the clock is ahead."""
        return self._clock.offset

    async def follow_clock(self) -> None:
        """Follow the clock that other processes move, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._follow()
            except Refusal as refusal:
                _log.warning("sandbox_clock_waits", code=refusal.code)

    async def messages(self, to: str) -> list[Sent]:
        """What was sent to a mobile, newest first, with whatever was on its way when asked."""
        await self._relay.settled(to, _SETTLE_SECONDS)
        return await self._store.sent_to(to, _MOST_MESSAGES)

    async def set_fault(self, gateway: Gateway, fault: Fault, times: int) -> None:
        """Let the next calls of a gateway fail. Refuses with `invalid_request` a fault that it cannot have."""
        if fault not in (BOOK_FAULTS if gateway == "upstream" else FAULTS):
            raise invalid("fault", "not_allowed")
        await self._store.set_fault(gateway, fault, times)

    async def _follow(self) -> None:
        ahead, resets = await self._store.clock()
        self._clock.offset = timedelta(seconds=ahead)
        if resets != self._resets:
            self._resets = resets
            self._forget()

    def _forget(self) -> None:
        for memory in self._memories:
            memory.forget()
