"""Limits: how often somebody may try.

True here: a limit that guards a secret is exact, also for two processes at the same instant, because counting is one
conditional write of one document; a subject is a keyed mark, never a number or an address. Never here: a window that
forgets at the stroke of an hour; every limit looks back from now.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Protocol

from service.clock import Clock
from service.errors import Code, Refusal
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` times in `window`."""

    name: str
    most: int
    window: timedelta
    code: Code = "rate_limited"


VERIFICATIONS_PER_IDENTITY: Final = Limit("verification/identity", 5, timedelta(hours=6))
VERIFICATIONS_PER_ADDRESS: Final = Limit("verification/address", 30, timedelta(hours=1))
SMS_PER_MOBILE: Final = (
    Limit("sms/minute", 1, timedelta(seconds=60)),
    Limit("sms/hour", 5, timedelta(hours=1)),
    Limit("sms/day", 10, timedelta(days=1)),
)
CARD_DETAILS: Final = Limit("card-details", 5, timedelta(days=1), "too_many_attempts")
HOUSEHOLD_DETAILS: Final = Limit("household-details", 5, timedelta(days=1), "too_many_attempts")
# The same for the codes of one caller, counted by who they say they are: there may be no such person, and no mobile.
HOTLINE_CODES: Final = tuple(Limit(limit.name.replace("sms", "hotline"), limit.most, limit.window) for limit in SMS_PER_MOBILE)
# Codes to email addresses, counted by who asks for them and by where they go.
EMAIL_CODES_PER_HOLDER: Final = tuple(
    Limit(limit.name.replace("sms", "email"), limit.most, limit.window) for limit in SMS_PER_MOBILE
)
EMAIL_CODES_PER_ADDRESS: Final = (
    Limit("email-address/hour", 5, timedelta(hours=1)),
    Limit("email-address/day", 10, timedelta(days=1)),
)
# People whom one operator looks up, each counted once.
LOOK_UPS: Final = Limit("staff/look-ups", 30, timedelta(hours=1))
# An operator types the numbers of many people a day; who tries numbers in a row is stopped all the same.
STAFF_CARD_DETAILS: Final = Limit("staff/card-details", 20, timedelta(hours=1), "too_many_attempts")


@dataclass(frozen=True, slots=True)
class Place:
    """Room held for judging one guess."""

    subject: bytes
    limit: Limit
    name: bytes


class LimitStore(Protocol):
    """Where tries are counted."""

    async def hit(self, subject: bytes, limit: Limit, now: datetime) -> datetime | None:
        """Count a try. None when it was within the limit; else nothing is counted and the moment when one is free again."""

    async def reserve(self, subject: bytes, limit: Limit, guess: bytes, now: datetime) -> Place | datetime:
        """Hold a place for judging a guess; places for the same guess count as one. Else the moment when one is free."""

    async def count_distinct(self, subject: bytes, limit: Limit, item: bytes, now: datetime) -> datetime | None:
        """Count an item, once however often it comes, as of the last time.

        None when there was room for it among the others; else nothing is counted and the moment when there is room again.
        """

    def give_back(self, place: Place) -> Awaitable[object]:
        """Give a place back, beginning now; giving it back again changes nothing."""


class Limits:
    """Counting tries of subjects that must stay unknown."""

    def __init__(self, store: LimitStore, vault: Vault, clock: Clock, *, address_factor: int = 1) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._address_factor = address_factor

    def _subject(self, limit: Limit, subject: str) -> bytes:
        return self._vault.mac("limit", limit.name, subject)

    def _refusal(self, limit: Limit, free_at: datetime) -> Refusal:
        left = (free_at - self._clock.now()).total_seconds()
        return Refusal(limit.code, retry_after=max(1, ceil(left)))

    async def hit(self, limit: Limit, subject: str) -> None:
        """Count a try. Refuses with the limit's code and the seconds until the next."""
        free_at = await self._store.hit(self._subject(limit, subject), limit, self._clock.now())
        if free_at is not None:
            raise self._refusal(limit, free_at)

    async def hit_address(self, limit: Limit, address: str) -> None:
        """As `hit`, for a network address; wider where many people share one on purpose (the sandbox)."""
        wider = Limit(limit.name, limit.most * self._address_factor, limit.window, limit.code)
        await self.hit(wider, address)

    async def count_distinct(self, limit: Limit, subject: str, item: str) -> None:
        """Count something among the different ones; the same again is no more than one. Refuses like `hit`."""
        mark = self._subject(limit, subject)
        free_at = await self._store.count_distinct(mark, limit, self._vault.mac("item", item), self._clock.now())
        if free_at is not None:
            raise self._refusal(limit, free_at)

    async def reserve(self, limit: Limit, subject: str, guess: str) -> Place:
        """Hold a place before a guess is judged, so that a burst of guesses is no more guesses. Refuses like `hit`."""
        mark = self._subject(limit, subject)
        place = await self._store.reserve(mark, limit, self._vault.mac("guess", guess), self._clock.now())
        if isinstance(place, Place):
            return place
        raise self._refusal(limit, place)

    def free(self, place: Place) -> Awaitable[object]:
        """The guess was right: its place is given back, beginning now, while its author goes on."""
        return self._store.give_back(place)

    async def miss(self, place: Place) -> None:
        """The guess was wrong. Refuses like `hit` when it was one too many."""
        # The guess keeps its place until its try is counted, so that no other slips in between.
        free_at = await self._store.hit(place.subject, place.limit, self._clock.now())
        await self._store.give_back(place)
        if free_at is not None:
            raise self._refusal(place.limit, free_at)


class Pace:
    """A limit on ordinary look-ups, kept in this process: it protects the service, not a secret, so it costs no write.

    Remembers the most recent 50,000 subjects; each process counts for itself.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._window = limit.window.total_seconds()
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def hit(self, subject: str, moment: datetime) -> None:
        """Count a look-up. Refuses with the limit's code and the seconds until the next."""
        now, window = moment.timestamp(), self._window
        tries = self._tries.get(subject)
        if tries is None:
            tries = self._tries[subject] = deque()
            if len(self._tries) > 50_000:  # noqa: PLR2004  as the docstring says
                self._tries.popitem(last=False)
        else:
            self._tries.move_to_end(subject)
        while tries and tries[0] <= now - window:
            tries.popleft()
        if len(tries) >= self._limit.most:
            raise Refusal(self._limit.code, retry_after=max(1, ceil(tries[0] + window - now)))
        tries.append(now)

    def forget(self) -> None:
        """Nobody has looked anything up yet: for a sandbox that is put back, and its clock with it."""
        self._tries.clear()
