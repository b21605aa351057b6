"""Errands: what a noun has decided and not yet carried through, for the relay to do should the process have died in between.

True here: an errand is read off what is stored, and doing it again changes nothing. Never here: when, or how often it is tried.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that is to be done. `errand_id` is the same as long as it is the same errand."""

    errand_id: str
    do: Callable[[], Awaitable[object]]


class Errands(Protocol):
    """A noun whose decisions have effects beyond their own document."""

    async def undone(self, limit: int) -> Sequence[Errand]:
        """Some that are to be done; doing one again changes nothing."""
