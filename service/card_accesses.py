"""Card accesses: what holders change on their own cards stands in their access logs.

True here: the entry's id follows from the happening, so hearing of it again writes nothing; it is written before anybody is
told. What an operator changes was written at the counter before it was done, and what a guardian does where it is judged
whether they may; neither is written a second time. Never here: a change that is not in the card's history.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from service.holders import Access, AccessLogStore
from service.ids import CardId, HolderId, derived_id
from service.relay import Happening
from service.transitions import TRANSITIONS

# The log calls a change as the counter does: by the name of the action.
_ACTIONS: Final[Mapping[str, str]] = {row.happening: str(action) for action, row in TRANSITIONS.items()}


@dataclass(frozen=True, slots=True)
class Change:
    """One change as a card's history has it: whose card, who did it, where, why; `guardian`: who acted for a minor."""

    holder_id: HolderId
    by: str
    channel: str
    reason: str | None
    guardian: HolderId | None


class ChangeStore(Protocol):
    """Where the histories of cards are."""

    def changes(self, card_id: CardId) -> Awaitable[Mapping[str, Change] | None]:
        """What happened to a card, by the id of the happening."""


class CardAccesses:
    """Hearer: writes down what holders did."""

    def __init__(self, store: ChangeStore, log: AccessLogStore) -> None:
        self._store = store
        self._log = log

    async def hear(self, happening: Happening) -> None:
        """Write it into the holder's log, if the holder did it; returns when it is safe."""
        changes = await self._store.changes(happening.card_id)
        change = (changes or {}).get(happening.happening_id)
        if change is None or change.by != change.holder_id or change.guardian is not None:
            return
        action = _ACTIONS.get(happening.name, happening.name)
        access_id = derived_id("acc", happening.happening_id)
        access = Access(access_id, happening.at, action, "self", change.channel, change.reason)
        await self._log.record(change.holder_id, access)
