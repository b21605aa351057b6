"""Coalesced reads: readers who wait at the same moment share one query.

Nearly all of a read's cost is the driver, not the server, so many small reads are made one: `find({_id: {$in: [...]}})`.
True here: a reader's query always begins after the reader asked, so everybody sees at least what was acknowledged before
they asked; a reader who comes while queries are out waits for the next. Queries are bounded in size and in number; a query
that fails, fails only the readers in it; a reader who is cancelled takes nobody along. Never here: a cache.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from service.mongo.client import Collection, Document

MOST_IDS: Final = 64
MOST_QUERIES: Final = 4


class Reads:
    """By-id reads of one collection, with one projection."""

    def __init__(
        self, collection: Collection, projection: Mapping[str, Any] | None = None, *, most_queries: int = MOST_QUERIES
    ) -> None:
        self._collection = collection
        self._projection = projection
        self._most_queries = most_queries
        self._waiting: dict[str, asyncio.Future[Document | None]] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._draining = 0

    async def get(self, document_id: str) -> Document | None:
        """The document, at least as new as the last write acknowledged before this call."""
        future = self._waiting.get(document_id)
        if future is None:
            future = self._waiting[document_id] = asyncio.get_running_loop().create_future()
            if self._draining < self._most_queries:
                self._start()
        # Shielded: several readers of one id share a future, and one who gives up must not cancel the others'.
        return await asyncio.shield(future)

    def _start(self) -> None:
        self._draining += 1
        task = asyncio.get_running_loop().create_task(self._drain())
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _drain(self) -> None:
        try:
            # One turn of the loop lets everybody who is asking right now come along.
            await asyncio.sleep(0)
            await self._answer_all()
        finally:
            # In the same step in which nobody was seen waiting: a reader who comes later must find this drain gone, or it
            # would wait for one that has stopped looking.
            self._draining -= 1

    async def _answer_all(self) -> None:
        while self._waiting:
            batch = self._take()
            try:
                found = await self._query(list(batch))
            except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the readers in this batch
                for future in batch.values():
                    if not future.done():
                        future.set_exception(error)
                        # A reader who was cancelled leaves a future that nobody asks; that is no fault.
                        future.exception()
            else:
                for document_id, future in batch.items():
                    if not future.done():
                        future.set_result(found.get(document_id))

    def _take(self) -> dict[str, asyncio.Future[Document | None]]:
        if len(self._waiting) <= MOST_IDS:
            batch, self._waiting = self._waiting, {}
            return batch
        ids = [document_id for document_id, _ in zip(self._waiting, range(MOST_IDS), strict=False)]
        return {document_id: self._waiting.pop(document_id) for document_id in ids}

    async def _query(self, ids: list[str]) -> dict[str, Document]:
        if len(ids) == 1:
            document = await self._collection.find_one({"_id": ids[0]}, self._projection)
            return {} if document is None else {ids[0]: document}
        documents = await self._collection.find({"_id": {"$in": ids}}, projection=self._projection, limit=len(ids))
        return {document["_id"]: document for document in documents}
