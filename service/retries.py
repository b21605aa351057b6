"""What failed and is left alone for a while: each longer, the more often it failed.

True here: it is a process's own memory, so another process, or the next one, tries at once; it is bounded, and what falls out
of it is merely tried sooner. Never here: giving up.
"""

import time
from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
MOST_REMEMBERED: Final = 1_000


class Retries:
    """When to try again, by the names of what failed."""

    def __init__(self, moment: Callable[[], float] = time.monotonic) -> None:
        """`moment`: seconds on a clock that never goes back."""
        self._moment = moment
        self._until: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """How many are remembered, resting or not."""
        return len(self._until)

    def rests(self, name: str) -> bool:
        """Whether it is to be left alone still."""
        return name in self._until and self._moment() < self._until[name][0]

    def failed(self, name: str, *, in_vain: bool) -> None:
        """Leave it alone. `in_vain`: nothing says that it will do better the next time, so the rest grows with each failure."""
        _, before = self._until.pop(name, (0.0, 0.0))
        seconds = min(before * 2, LONGEST_SECONDS) if in_vain and before else FIRST_SECONDS
        self._until[name] = (self._moment() + seconds, seconds)
        if len(self._until) > MOST_REMEMBERED:
            del self._until[next(iter(self._until))]

    def done(self, name: str) -> None:
        """It is over."""
        self._until.pop(name, None)
