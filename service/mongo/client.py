"""The way to the database, and the only module that knows the driver's calls.

True here: every write is acknowledged by a majority and journaled, every read is of what a majority holds, every call has a
deadline. A failure leaves as a refusal or as StorageError, never as the driver's own exception, whose text holds values.
Never here: a guess. A write whose answer was lost is `outcome_unknown`, not a failure.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import InsertOne, ReplaceOne, ReturnDocument, UpdateOne, WriteConcern
from pymongo.collection import Collection as DriverCollection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from service.errors import Refusal
from service.mendable import MendableError
from service.mongo.batches import Trips
from service.mongo.threads import Threads

_TIMES_WITH_ZONE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=True)
_TIMES_WITHOUT_ZONE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=False)
Document = dict[str, Any]
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Operation = InsertOne[Document] | ReplaceOne[Document] | UpdateOne

_RETRY_AFTER: Final = 2
_DUPLICATE: Final = 11000
# Server codes that mean "not now": not primary, shutting down, stepping down, time limit, write concern not reached.
_PASSING: Final = frozenset({6, 7, 50, 64, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})


def in_utc(time: datetime) -> datetime:
    """The same time with its zone, for one that came without."""
    return datetime.combine(time, time.time(), UTC)


class StorageError(MendableError):
    """The database refused something that it should take: a fault of ours. Carries the server's code, never values."""


class Duplicate(Exception):  # noqa: N818  it is an answer: somebody was first
    """A document with this key is there already."""


class _Guard:
    """Turns what the driver raises into what the service knows."""

    __slots__ = ("_write",)

    def __init__(self, *, write: bool) -> None:
        self._write = write

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, PyMongoError):
            return
        if isinstance(error, DuplicateKeyError):
            raise Duplicate from None
        unsent = isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError)
        if isinstance(error, OperationFailure) and not error.timeout and error.code not in _PASSING:
            raise StorageError(f"the database refused with code {error.code}") from None
        if self._write and not unsent:
            raise Refusal("outcome_unknown", retry_after=_RETRY_AFTER) from None
        raise Refusal("unavailable", retry_after=_RETRY_AFTER) from None


_READ: Final = _Guard(write=False)
_WRITE: Final = _Guard(write=True)


class Collection:
    """One collection, with the calls that the stores need."""

    def __init__(
        self, motor: "AsyncIOMotorCollection[Document]", threads: Threads, trips: dict[tuple[str, str], Trips]
    ) -> None:
        """`threads`: for the calls that most requests share in. `trips`: those of the whole process, by collection and kind."""
        self._motor = motor
        # The blocking driver under motor, with the same concerns and connections.
        self._driver: DriverCollection[Document] = motor.delegate
        self._threads = threads
        self._trips = trips
        # A command does not take it from the database by itself.
        self._reading = {"readConcern": motor.read_concern.document}

    @property
    def name(self) -> str:
        return str(self._motor.name)

    def shared_trips(self, kind: Literal["read", "write"]) -> Trips:
        """Where shared trips to this collection are counted."""
        return self._trips.setdefault((self.name, kind), Trips())

    async def find_one(self, query: Mapping[str, Any], projection: Mapping[str, Any] | None = None) -> Document | None:
        """The first match."""
        found = await self.find(query, projection=projection, limit=1)
        return found[0] if found else None

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int,
    ) -> list[Document]:
        """At most `limit` matches: mostly one answer of the server, which costs the driver less than a cursor.

        A cursor, which tries again, where the connection broke or one answer does not hold them all.
        """
        command: Document = {"find": self.name, "filter": query, "limit": limit, "batchSize": limit + 1} | self._reading
        if projection is not None:
            command["projection"] = projection
        if sort:
            command["sort"] = dict(sort)
        with _READ:
            try:
                reply = await self._threads.run(
                    partial(self._driver.database.command, command, codec_options=self._driver.codec_options)
                )
            except PyMongoError as error:
                # Its time is up: none is left to try again.
                if error.timeout:
                    raise
            else:
                answer: Mapping[str, Any] = reply["cursor"]
                if not answer["id"]:
                    return list(answer["firstBatch"])
            cursor = self._motor.find(query, projection, batch_size=limit + 1).limit(limit)
            return await (cursor.sort(list(sort)) if sort else cursor).to_list(limit)

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """What a pipeline that ends with a few documents gives."""
        with _READ:
            return await self._motor.aggregate(list(pipeline)).to_list(None)

    async def count(self, query: Mapping[str, Any], limit: int) -> int:
        """How many match, counted no further than `limit`."""
        with _READ:
            return int(await self._motor.count_documents(query, limit=limit))

    async def insert(self, document: Document) -> None:
        """Add a document. Raises Duplicate."""
        with _WRITE:
            await self._motor.insert_one(document)

    async def insert_all(self, documents: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add documents in any order; the places, in the sequence, of those whose key is there already."""
        if not documents:
            # The driver takes that for a mistake, and a batch of which no row was good is none.
            return []
        with _WRITE:
            try:
                await self._motor.insert_many(documents, ordered=False)  # type: ignore[arg-type]  # raw documents are read-only
            except BulkWriteError as error:
                return _duplicates(error)
        return []

    async def insert_in_order(self, documents: Sequence[Document]) -> bool:
        """Add documents one after the other, up to the first of which a key is there already; whether all were added."""
        with _WRITE:
            try:
                await self._motor.insert_many(documents, ordered=True)
            except BulkWriteError as error:
                _duplicates(error)
                return False
        return True

    async def bulk(self, operations: Sequence[Operation]) -> tuple[int, dict[int, Exception]]:
        """Do all of them, in any order: how many were done, and what became of others by their place: Duplicate, or refused.

        An update that finds no match is not done and no failure.
        """
        with _WRITE:
            try:
                written = await self._threads.run(partial(self._driver.bulk_write, operations, ordered=False))
                result: Mapping[str, Any] = written.bulk_api_result
            except BulkWriteError as error:
                result = error.details
        if result.get("writeConcernErrors"):
            raise Refusal("outcome_unknown", retry_after=_RETRY_AFTER)
        done = result["nInserted"] + result["nMatched"] + result["nUpserted"]
        return done, {item["index"]: _refused(item["code"]) for item in result["writeErrors"]}

    async def update(self, query: Mapping[str, Any], update: Update, *, upsert: bool = False) -> bool:
        """Change the first match; whether there was one. Raises Duplicate."""
        with _WRITE:
            result = await self._motor.update_one(query, update, upsert=upsert)
            return bool(result.matched_count)

    async def update_all(self, query: Mapping[str, Any], update: Update) -> None:
        """Change every match, one after the other."""
        with _WRITE:
            await self._motor.update_many(query, update)

    async def change(
        self,
        query: Mapping[str, Any],
        update: Update,
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        upsert: bool = False,
    ) -> Document | None:
        """Change the first match and give it back as it is afterwards. Raises Duplicate."""
        with _WRITE:
            found: Document | None = await self._motor.find_one_and_update(
                query,
                update,
                projection=projection,
                sort=list(sort) or None,
                upsert=upsert,
                return_document=ReturnDocument.AFTER,
            )
            return found

    async def replace(self, document: Document) -> None:
        """Put a document in the place of the one with its id, or add it."""
        with _WRITE:
            await self._motor.replace_one({"_id": document["_id"]}, document, upsert=True)

    async def delete(self, query: Mapping[str, Any]) -> bool:
        """Delete the first match; whether there was one."""
        with _WRITE:
            return bool((await self._motor.delete_one(query)).deleted_count)

    async def delete_all(self, query: Mapping[str, Any] | None = None) -> None:
        """Delete every match, or everything. Only a sandbox and an erasure do that."""
        with _WRITE:
            await self._motor.delete_many(query or {})

    async def ensure_index(self, keys: Sequence[tuple[str, int]], **options: Any) -> None:  # noqa: ANN401  the driver's own
        """Make an index unless it is there."""
        with _WRITE:
            await self._motor.create_index(list(keys), **options)


def _refused(code: int) -> Exception:
    """What the server's refusal of one of several writes means. Its text holds values."""
    if code == _DUPLICATE:
        return Duplicate()
    if code in _PASSING:
        return Refusal("outcome_unknown", retry_after=_RETRY_AFTER)
    return StorageError(f"the database refused with code {code}")


def insertion(document: Document) -> Operation:
    """For `bulk`: add a document."""
    return InsertOne(document)


def replacement(document: Document) -> Operation:
    """For `bulk`: put a document in the place of the one with its id, or add it."""
    return ReplaceOne({"_id": document["_id"]}, document, upsert=True)


def change_of(query: Mapping[str, Any], update: Update, *, upsert: bool = False) -> Operation:
    """For `bulk`: change the first match."""
    return UpdateOne(query, update, upsert=upsert)


def _duplicates(error: BulkWriteError) -> list[int]:
    """The places of duplicates, where that is all that went wrong. What the server says of each holds values."""
    details = error.details
    codes = {item["code"] for item in details.get("writeErrors", ())} - {_DUPLICATE}
    if codes - _PASSING:
        raise StorageError(f"the database refused with code {min(codes - _PASSING)}") from None
    if codes or details.get("writeConcernErrors"):
        raise Refusal("outcome_unknown", retry_after=_RETRY_AFTER) from None
    return sorted(item["index"] for item in details["writeErrors"])


class Database:
    """A connection to one database. Use as an async context manager: leaving it closes every connection."""

    def __init__(
        self, uri: str, name: str, *, deadline_seconds: float, pool: int, listeners: Sequence[CommandListener] = ()
    ) -> None:
        """Raises ConfigurationFault for a URI that cannot be one; connects later. `listeners` hear of every command."""
        if not uri:
            raise ConfigurationFault("it is not set")
        try:
            self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                uri,
                appname="yika",
                event_listeners=list(listeners),
                tz_aware=True,
                maxPoolSize=pool,
                timeoutMS=int(deadline_seconds * 1000),
                serverSelectionTimeoutMS=int(deadline_seconds * 1000),
                connectTimeoutMS=3000,
                retryWrites=True,
                retryReads=True,
            )
        except (InvalidURI, ConfigurationError, ValueError) as error:
            raise ConfigurationFault(type(error).__name__) from None
        self._threads = Threads()
        self._trips: dict[tuple[str, str], Trips] = {}
        self._database = self._client.get_database(
            name,
            codec_options=_TIMES_WITH_ZONE,
            write_concern=WriteConcern("majority", j=True),
            read_concern=ReadConcern("majority"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It says goodbye to the server, and waits where that does not answer.
        await asyncio.to_thread(self._client.close)
        self._threads.stop()

    def collection(self, name: str, *, zoned: bool = True) -> Collection:
        """A collection by name.

        `zoned`: whether the times in its documents come with their zone, as they should unless nearly every request reads them:
        it is most of what reading a small document costs, and `in_utc` gives it back for a sixth.
        """
        options = _TIMES_WITH_ZONE if zoned else _TIMES_WITHOUT_ZONE
        return Collection(self._database.get_collection(name, codec_options=options), self._threads, self._trips)

    def shared_trips(self) -> list[tuple[tuple[str, str], tuple[int, int]]]:
        """How many trips callers shared, and how many items these carried, by collection and kind; of those that took one.

        So that nothing is said of collections that only a sandbox has.
        """
        return [(words, (trips.batches, trips.items)) for words, trips in self._trips.items() if trips.batches]

    async def ping(self) -> None:
        """Refuses with `unavailable` when no primary answers."""
        with _READ:
            await self._database.command("ping")

    async def is_replicated(self) -> bool:
        """Whether this is a replica set or a sharded cluster: a lone server cannot retry a write without doing it twice."""
        with _READ:
            hello = await self._database.command("hello")
        return "setName" in hello or hello.get("msg") == "isdbgrid"

    async def drop(self) -> None:
        """Drop the whole database. Only tests and sandboxes have one to drop."""
        with _WRITE:
            await self._client.drop_database(self._database.name)

    async def validate(self, name: str, schema: Mapping[str, Any]) -> None:
        """Make a collection whose documents the database itself checks, or give an existing one this check."""
        with _WRITE:
            validation = {"validator": {"$jsonSchema": schema}, "validationLevel": "strict"}
            if name in await self._database.list_collection_names():
                await self._database.command({"collMod": name, **validation})
            else:
                await self._database.command({"create": name, **validation})


class ConfigurationFault(Exception):  # noqa: N818  it is the operator's to mend
    """The database address cannot be used; the text says why without the address, which may hold a password."""
