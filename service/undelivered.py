"""Messages that did not get to whom they were for, or nobody knows: what whoever runs the service sees of them and does.

True here: nothing goes out by itself any more; a person says whether it is offered again or left at that, and saying it twice
is saying it once. Never here: a number, an address or a text; nobody needs them to decide.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, get_args

from service.clock import Clock
from service.notifications import Channel, State

StuckState = Literal["dead", "uncertain"]
STUCK: Final[tuple[StuckState, ...]] = get_args(StuckState)
MOST_LISTED: Final = 1_000


class UndeliveredError(Exception):
    """It cannot be done; the text says why, for whoever asked."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A message as it stands. `settled_at`: when its last try came out. After `until` it is no use to anybody."""

    message_id: str
    state: State
    channel: Channel
    template: str
    attempts: int
    posted_at: datetime
    settled_at: datetime | None
    until: datetime | None


class UndeliveredStore(Protocol):
    """Messages as those see them who look after them."""

    async def undelivered(self, states: tuple[StuckState, ...], limit: int) -> list[Stuck]:
        """Those in some states, those that came to it last first."""

    async def stuck(self, message_id: str) -> Stuck | None:
        """One, whatever its state."""

    async def offer_again(self, message_id: str, now: datetime) -> bool:
        """Make one that is stuck due now, as if it had never been tried; whether it was stuck."""

    async def close(self, message_id: str, now: datetime) -> bool:
        """Leave one that is stuck at that; whether it was stuck."""


class Undelivered:
    """Looking after messages."""

    def __init__(self, store: UndeliveredStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def listed(self, states: tuple[StuckState, ...]) -> tuple[list[Stuck], bool]:
        """Those in some states, the last first, and whether there are more than are shown."""
        found = await self._store.undelivered(states, MOST_LISTED + 1)
        return found[:MOST_LISTED], len(found) > MOST_LISTED

    async def resend(self, message_id: str) -> State:
        """Offer a message again that is dead or uncertain; its state before. One that is due, sent or under way stays so.

        Raises UndeliveredError for one that is not there, was closed, or is of no use any more.
        """
        found = await self._found(message_id)
        if found.state == "closed":
            raise UndeliveredError(f"{message_id} was settled; it is not sent any more")
        if found.state in STUCK:
            if found.until is not None and found.until <= self._clock.now():
                raise UndeliveredError(f"{message_id} was of use until {found.until:%Y-%m-%d %H:%M:%S} UTC only")
            await self._store.offer_again(message_id, self._clock.now())
        return found.state

    async def settle(self, message_id: str) -> State:
        """Leave a message at what it is, dead or uncertain, and count it no more; its state before.

        Raises UndeliveredError for one that is not there or still goes out by itself.
        """
        found = await self._found(message_id)
        if found.state in {"due", "sending"}:
            raise UndeliveredError(f"{message_id} is on its way")
        if found.state in STUCK:
            await self._store.close(message_id, self._clock.now())
        return found.state

    async def _found(self, message_id: str) -> Stuck:
        found = await self._store.stuck(message_id)
        if found is None:
            raise UndeliveredError(f"there is no message {message_id}; messages are kept for 30 days")
        return found
