"""A circuit breaker: who has not answered several times running is left alone for a while.

True here: while it is open a question costs nothing; after the pause one question goes through, and by its fate it closes or
stays open. Counted in this process alone. Never here: a pause that grows without bound, or a probe that nobody ends.
"""

from datetime import datetime, timedelta
from math import ceil
from typing import Final

from service.clock import Clock

FAILURES: Final = 5
PAUSE: Final = timedelta(seconds=10)


class Breaker:
    """Every `admits` that said yes is followed by `succeeded` or `failed`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._until: datetime | None = None
        self._probing = False

    def admits(self) -> bool:
        """Whether a question may go out now."""
        if self._until is None:
            return True
        if self._probing or self._clock.now() < self._until:
            return False
        self._probing = True
        return True

    @property
    def is_open(self) -> bool:
        """Whether questions are held back."""
        return self._until is not None

    @property
    def retry_after(self) -> int:
        """In how many whole seconds somebody may ask again; at least 1."""
        left = self._until - self._clock.now() if self._until else timedelta()
        return max(1, ceil(left.total_seconds()))

    def succeeded(self) -> None:
        """It answered."""
        self.forget()

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        self._probing = False
        if self._failures >= FAILURES:
            self._until = self._clock.now() + PAUSE

    def forget(self) -> None:
        """Nothing has failed yet."""
        self._failures = 0
        self._until = None
        self._probing = False
