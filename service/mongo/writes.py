"""Coalesced writes: writers who wait at the same moment share one bulk write, and with it one wait for the journal.

True here: each is a write of its own, done or not on its own condition, in any order, and acknowledged by a majority and
journaled before its writer hears of it; what one of them is refused, is that one's refusal. Where the answer of the whole
was lost, nobody knows of any. Never here: two writes that must be seen together; that is one document and one write.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.mongo.batches import Batches, fail, settle
from service.mongo.client import Collection, Document, Operation, Update, change_of, insertion, replacement

MOST_WRITES: Final = 64
MOST_BULKS: Final = 4


@dataclass(frozen=True, slots=True)
class _Write:
    operation: Operation
    future: "asyncio.Future[bool]"


class Writes:
    """Writes to one collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._batches = Batches(self._write, collection.shared_trips("write"), most_items=MOST_WRITES, most_batches=MOST_BULKS)

    def insert(self, document: Document) -> "asyncio.Future[bool]":
        """Add a document; begins with the call. Raises Duplicate."""
        return self._add(insertion(document))

    def update(self, query: Mapping[str, Any], update: Update, *, upsert: bool = False) -> "asyncio.Future[bool]":
        """Change the one match; begins with the call. Raises Duplicate.

        True: the match was found. False: one of those who shared the trip found none, perhaps this one; the server only
        says how many did, so who needs to know looks at the document.
        """
        return self._add(change_of(query, update, upsert=upsert))

    def replace(self, document: Document) -> "asyncio.Future[bool]":
        """Put a document in the place of the one with its id, or add it; begins with the call."""
        return self._add(replacement(document))

    def _add(self, operation: Operation) -> "asyncio.Future[bool]":
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._batches.add(_Write(operation, future))
        return future

    async def _write(self, batch: list[_Write]) -> None:
        # A writer who gave up before the trip has written nothing.
        batch = [write for write in batch if not write.future.done()]
        if not batch:
            return
        try:
            done, errors = await self._collection.bulk([write.operation for write in batch])
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the writers in this batch
            fail([write.future for write in batch], error)
            return
        all_found = done == len(batch)
        for number, write in enumerate(batch):
            if number in errors:
                fail([write.future], errors[number])
            else:
                settle([write.future], all_found)
