"""Wrong tries in the database: one document a subject, with their number and until when nobody may try.

True here: judging and counting is one update, so the count is exact also between processes; a document that is past counts
for nothing, and goes by itself.
"""

import secrets
from datetime import datetime, timedelta
from typing import Final

from service.lockouts import Lockout
from service.mongo.client import Database, Document, Duplicate, Update

NAME: Final = "lockouts"
_ROUNDS: Final = 5
_MILLISECOND: Final = timedelta(milliseconds=1)


class MongoLockoutStore:
    """LockoutStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def count(self, subject: bytes, lockout: Lockout, now: datetime) -> datetime | None:
        name = secrets.token_bytes(12)
        document = await self._upsert(subject, _counting(lockout, name, now))
        if bytes(document["last"]) == name:
            return None
        until: datetime = document["until"]
        return until

    async def forget(self, subject: bytes) -> None:
        await self._collection.delete({"_id": subject})

    async def _upsert(self, subject: bytes, update: Update) -> Document:
        for _ in range(_ROUNDS):
            try:
                document = await self._collection.change({"_id": subject}, update, upsert=True)
            except Duplicate:
                # Somebody made the document at the same instant; it is there now.
                continue
            if document is not None:
                return document
        raise AssertionError("an upsert that is no duplicate gives a document")


def _counting(lockout: Lockout, name: bytes, now: datetime) -> list[Document]:
    """Count one more, under a name by which whoever asked sees that it was theirs, unless it is time to wait."""
    waits = [wait // _MILLISECOND for wait in lockout.waits]
    admitted = {"$not": [{"$gt": ["$until", now]}]}
    mine = {"$eq": ["$last", name]}
    wait = {"$arrayElemAt": [waits, {"$min": [{"$subtract": ["$count", lockout.free]}, len(waits) - 1]}]}
    over = {"$and": [mine, {"$gte": ["$count", lockout.free]}]}
    kept = {"$add": [{"$max": ["$until", now]}, lockout.remembered // _MILLISECOND]}
    return [
        {"$set": {"count": {"$cond": [{"$gt": ["$expiresAt", now]}, "$count", 0]}}},
        {"$set": {"last": {"$cond": [admitted, name, "$last"]}, "count": {"$add": ["$count", {"$cond": [admitted, 1, 0]}]}}},
        {"$set": {"until": {"$cond": [over, {"$add": [now, wait]}, "$until"]}}},
        {"$set": {"expiresAt": {"$cond": [mine, kept, "$expiresAt"]}}},
    ]
