"""Lockouts: some wrong tries are free, then each further one costs a wait that doubles.

True here: a try is counted as wrong before it is judged, in one conditional write, and forgotten when it was right, so a
burst of guesses is no more guesses, also between processes; a subject is a keyed mark, and one that nobody has is counted
like any other. Never here: what was tried.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Protocol

from service.clock import Clock
from service.errors import Refusal
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class Lockout:
    """After `free` wrong tries a wait of `first`, twice that after the next, and so on, never more than `longest`.

    `remembered`: how long after the last wrong try, or the wait that it brought, all of them are forgotten.
    """

    name: str
    free: int
    first: timedelta
    longest: timedelta
    remembered: timedelta

    @property
    def waits(self) -> tuple[timedelta, ...]:
        """The wait after the last free try, after the next, and so on; the last one stays."""
        waits = [self.first]
        while waits[-1] < self.longest:
            waits.append(min(waits[-1] * 2, self.longest))
        return tuple(waits)


# Without an end to the doubling, anybody could keep an operator out for a year by guessing at their name.
STAFF_SIGN_IN: Final = Lockout(
    "staff/sign-in", 5, timedelta(minutes=15), longest=timedelta(hours=24), remembered=timedelta(hours=24)
)


class LockoutStore(Protocol):
    """Where wrong tries are counted."""

    async def count(self, subject: bytes, lockout: Lockout, now: datetime) -> datetime | None:
        """Count a try as wrong. None when it may be judged; else nothing is counted, and when the next one may be."""

    async def forget(self, subject: bytes) -> None:
        """There were no wrong tries."""


class Lockouts:
    """Counting wrong tries of subjects that must stay unknown."""

    def __init__(self, store: LockoutStore, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    def _subject(self, lockout: Lockout, subject: str) -> bytes:
        return self._vault.mac("lockout", lockout.name, subject)

    async def count(self, lockout: Lockout, subject: str) -> None:
        """Count a try as wrong before it is judged. Refuses with `too_many_attempts` and the seconds to wait."""
        now = self._clock.now()
        free_at = await self._store.count(self._subject(lockout, subject), lockout, now)
        if free_at is not None:
            raise Refusal("too_many_attempts", retry_after=max(1, ceil((free_at - now).total_seconds())))

    async def forget(self, lockout: Lockout, subject: str) -> None:
        """The try was right: it and all before it are forgotten."""
        await self._store.forget(self._subject(lockout, subject))
