"""Idempotency keys: the same request twice is one request.

True here: a key belongs to its caller; the first answer is kept for 24 hours, sealed, and given again byte for byte; a key
whose process died is free again when its lease has run out. Never here: a claim that is freed because a handler raised.
What the write did is then unknown, and the retry finds out from the aggregate.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from service.clock import Clock
from service.errors import Refusal
from service.vault import Vault

LEASE: Final = timedelta(seconds=20)
KEPT: Final = timedelta(hours=24)


class Answer(NamedTuple):
    """An answer as it went out: status, media type and body."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a key until the lease ends. `fence` tells this holder from the one who takes over.

    `mark` is the keyed name of caller and key, `since` when this use of the key began: a key may be used again for
    something else when it has been forgotten.
    """

    mark: bytes
    since: datetime
    fence: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a key that was seen before."""

    fingerprint: bytes
    lease_until: datetime
    answer: Answer | None


class IdempotencyStore(Protocol):
    """Where claims and answers are kept."""

    async def claim(self, mark: bytes, print_: bytes, now: datetime, lease: timedelta, kept: timedelta) -> Claim | Found:
        """Claim a key that is new or whose lease ran out with the same fingerprint; else what is known of it."""

    async def complete(self, claim: Claim, answer: Answer, whose: str | None = None) -> None:
        """Keep the answer, if the claim is still this one; with the person whose data it shows in plain, where it does."""

    async def release(self, claim: Claim) -> None:
        """Forget a claim under which nothing happened, if it is still this one."""


class Idempotency:
    """Claiming keys and keeping answers."""

    def __init__(self, store: IdempotencyStore, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    async def claim(self, caller: str, key: str, request: bytes) -> Claim | Answer:
        """Begin, or the first answer again.

        Refuses with `idempotency_key_reused` (other request) or `idempotency_in_flight` (somebody is at it).
        """
        mark = self._vault.mac("idempotency", caller, key)
        # Keyed, because a body holds numbers that could be guessed.
        print_ = self._vault.mac("request", caller, request.decode())
        now = self._clock.now()
        found = await self._store.claim(mark, print_, now, LEASE, KEPT)
        if isinstance(found, Claim):
            return found
        if found.fingerprint != print_:
            raise Refusal("idempotency_key_reused")
        if found.answer is None:
            # Nearly always it is a matter of milliseconds; only after a crash does it take what is left of the lease.
            raise Refusal("idempotency_in_flight", retry_after=1)
        return found.answer

    def request_mark(self, claim: Claim) -> bytes:
        """What aggregates keep with what a request did, so that its retry recognises its own work."""
        return self._vault.mac("request-mark", claim.mark.hex(), claim.since.isoformat())

    async def complete(self, claim: Claim, answer: Answer, whose: str | None = None) -> None:
        """Keep the answer for KEPT. `whose`: the person whose data it shows in plain, with whom it goes."""
        await self._store.complete(claim, answer, whose)

    async def release(self, claim: Claim) -> None:
        """Free the key: the request was turned away before anything happened."""
        await self._store.release(claim)
