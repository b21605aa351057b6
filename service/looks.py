"""Looks: what holders do with their own data, written into their own logs.

True here: a look is written once a session, kind and thing, under an id that follows from the three, so any process may write
it again and it is there once; what this process has written is remembered, in bounded room, so that looking again costs a
glance into memory. An act is written once a request, before it is done. Never here: somebody else's data, or a thing that has
not been found to be its holder's.
"""

from datetime import datetime
from typing import Final

from service.holders import Access, AccessLogStore
from service.ids import HolderId, derived_id

# Some 15 MB when it is full. What is pushed out is written again, to no effect.
REMEMBERED: Final = 50_000


class Looks:
    """Writing down what holders look at and do."""

    def __init__(self, log: AccessLogStore) -> None:
        self._log = log
        self._seen: dict[tuple[str, str, str], None] = {}

    def is_known(self, session_id: str, kind: str, thing: str) -> bool:
        """Whether this look has been written down already, as far as this process remembers."""
        return (session_id, kind, thing) in self._seen

    async def looked(self, holder_id: HolderId, session_id: str, kind: str, thing: str, now: datetime) -> None:
        """Write a look down; returns when it is safe. `thing`: the id of what is shown, empty where there is but one."""
        if self.is_known(session_id, kind, thing):
            return
        access_id = derived_id("acc", session_id, kind, thing)
        await self._log.record(holder_id, Access(access_id, now, kind, "self", "app", thing or None))
        if len(self._seen) >= REMEMBERED:
            # The oldest goes: dicts keep the order in which they came.
            del self._seen[next(iter(self._seen))]
        self._seen[session_id, kind, thing] = None

    async def acts(self, holder_id: HolderId, request: bytes, kind: str, now: datetime) -> None:
        """Write an act down before it is done; returns when it is safe. `request`: the mark of the keyed request."""
        access_id = derived_id("acc", request.hex(), holder_id, kind)
        await self._log.record(holder_id, Access(access_id, now, kind, "self", "app", None))
