"""Tries in the database: one document a subject, holding the moments of its tries and the guesses being judged.

True here: judging and counting is one update, so the count is exact also between processes. A document is small because a
limit is small, and goes by itself when its window has passed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from service.limits import Limit
from service.mongo.client import Database, Document, Duplicate

NAME: Final = "limits"
_ROUNDS: Final = 3


class MongoLimitStore:
    """LimitStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def hit(self, subject: bytes, limit: Limit, now: datetime) -> datetime | None:
        room = {"$lt": [{"$size": "$tries"}, limit.most]}
        counted = {"$concatArrays": ["$tries", [now]]}
        return await self._judge(subject, limit, now, room, {"tries": counted})

    async def reserve(self, subject: bytes, limit: Limit, guess: bytes, now: datetime) -> datetime | None:
        # A place per guess, not per request: the same guess twice at once teaches its author nothing new.
        others = {"$filter": {"input": "$guesses", "cond": {"$ne": ["$$this.guess", guess]}}}
        room = {"$lt": [{"$add": [{"$size": "$tries"}, {"$size": others}]}, limit.most]}
        held = {"$concatArrays": [others, [{"guess": guess, "at": now}]]}
        return await self._judge(subject, limit, now, room, {"guesses": held})

    async def settle(self, subject: bytes, limit: Limit, guess: bytes, now: datetime, *, wrong: bool) -> datetime | None:
        if wrong:
            # The guess keeps its place until its try is counted, so that no other slips in between.
            refused = await self.hit(subject, limit, now)
        else:
            refused = None
        await self._collection.update({"_id": subject}, {"$pull": {"guesses": {"guess": guess}}})
        return refused

    async def _judge(
        self, subject: bytes, limit: Limit, now: datetime, room: Mapping[str, Any], change: Mapping[str, Any]
    ) -> datetime | None:
        since = now - limit.window

        def recent(field: str, at: str) -> Document:
            known = {"$ifNull": [f"${field}", []]}
            return {"$filter": {"input": known, "cond": {"$gt": [at, since]}}}

        update: list[Document] = [
            {"$set": {"tries": recent("tries", "$$this"), "guesses": recent("guesses", "$$this.at")}},
            {"$set": {"admitted": room}},
            {
                "$set": {field: {"$cond": ["$admitted", value, f"${field}"]} for field, value in change.items()}
                | {"expiresAt": now + limit.window}
            },
        ]
        document = await self._upsert(subject, update)
        if document["admitted"]:
            return None
        moments = sorted([*document["tries"], *(guess["at"] for guess in document["guesses"])])
        return (moments[0] if moments else now) + limit.window

    async def _upsert(self, subject: bytes, update: list[Document]) -> Document:
        for _ in range(_ROUNDS):
            try:
                document = await self._collection.change({"_id": subject}, update, upsert=True)
            except Duplicate:
                # Somebody made the document at the same instant; it is there now.
                continue
            if document is not None:
                return document
        raise AssertionError("an upsert that is no duplicate gives a document")
