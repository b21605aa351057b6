"""Coalesced reads: readers who wait at the same moment share one query, `find({_id: {$in: [...]}})`.

True here: a reader's query always begins after the reader asked, so everybody sees at least what was acknowledged before
they asked; a reader who comes while a query is out waits for the next; alone it is a plain `find_one`. A query that fails,
fails only the readers in it; a reader who is cancelled takes nobody along. Never here: a cache.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final, Generic, TypeVar

from service.mongo.batches import Batches, fail, settle
from service.mongo.client import Collection, Document

MOST_IDS: Final = 64
MOST_QUERIES: Final = 4

ValueT = TypeVar("ValueT")
Key = tuple[str | bytes, ...]


class Reads(Generic[ValueT]):
    """Reads of one collection by a unique key, with one projection; `read` makes a value of a document.

    `fields`: the fields that make up the key. Where the collection is sharded they hold the shard key, so that only the
    shards are asked that can have it.
    """

    def __init__(
        self,
        collection: Collection,
        read: Callable[[Document], ValueT],
        *,
        fields: tuple[str, ...] = ("_id",),
        projection: Mapping[str, Any] | None = None,
        most_queries: int = MOST_QUERIES,
    ) -> None:
        self._collection = collection
        self._read = read
        self._fields = fields
        self._projection = projection
        self._readers: dict[Key, list[asyncio.Future[ValueT | None]]] = {}
        self._batches = Batches(self._answer, collection.shared_trips("read"), most_items=MOST_IDS, most_batches=most_queries)

    def get(self, *key: str | bytes) -> asyncio.Future[ValueT | None]:
        """The document's value, at least as new as the last write acknowledged before this call; None when there is none.

        Asking begins with the call, not when the answer is awaited, so one may ask for several things and then wait.
        """
        # One future a reader: who gives up cancels their own.
        future: asyncio.Future[ValueT | None] = asyncio.get_running_loop().create_future()
        readers = self._readers.get(key)
        if readers is None:
            self._readers[key] = [future]
            self._batches.add(key)
        else:
            readers.append(future)
        return future

    async def _answer(self, keys: list[Key]) -> None:
        # From here on a reader of the same key belongs to the next batch.
        batch = {key: self._readers.pop(key) for key in keys}
        wanted = [key for key, readers in batch.items() if _waits(readers)]
        try:
            found = await self._query(wanted) if wanted else {}
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the readers in this batch
            for readers in batch.values():
                fail(readers, error)
            return
        for key, readers in batch.items():
            document = found.get(key)
            try:
                settle(readers, None if document is None else self._read(document))
            except Exception as error:  # noqa: BLE001  a document that cannot be read is its own readers' failure
                fail(readers, error)

    async def _query(self, keys: list[Key]) -> dict[Key, Document]:
        fields = self._fields
        if len(keys) == 1:
            document = await self._collection.find_one(dict(zip(fields, keys[0], strict=True)), self._projection)
            return {} if document is None else {keys[0]: document}
        among = [list(set(values)) for values in zip(*keys, strict=True)]
        query = {field: {"$in": values} for field, values in zip(fields, among, strict=True)}
        # Another key's number in this key's region may be somebody's too; nobody asked for that one.
        most = prod(len(values) for values in among)
        documents = await self._collection.find(query, projection=self._projection, limit=most)
        return {tuple([document[field] for field in fields]): document for document in documents}


def _waits(readers: list["asyncio.Future[ValueT]"]) -> bool:
    """Whether any of them still does; mostly there is one and it does."""
    return not readers[0].done() or any(not future.done() for future in readers)
