"""Tries in the database: one document a subject, holding the moments of its tries and the guesses being judged.

True here: judging and counting is one update, so the count is exact also between processes. A document is small because a
limit is small, and goes by itself when its window has passed.
"""

import secrets
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, Final

from service.limits import Limit, Place
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.mongo.writes import Writes

NAME: Final = "limits"
_ROUNDS: Final = 3


class MongoLimitStore:
    """LimitStore."""

    def __init__(self, database: Database) -> None:
        collection = database.collection(NAME)
        self._reads = Reads(collection, _itself)
        self._writes = Writes(collection)

    async def hit(self, subject: bytes, limit: Limit, now: datetime) -> datetime | None:
        name = secrets.token_bytes(12)
        room = {"$lt": [{"$size": "$tries"}, limit.most]}
        document = await self._admit(subject, limit, now, room, "tries", _with("$tries", {"name": name, "at": now}))
        return None if name in _names(document["tries"]) else _free_at(document, limit, now)

    async def reserve(self, subject: bytes, limit: Limit, guess: bytes, now: datetime) -> Place | datetime:
        name = secrets.token_bytes(12)
        place = {"name": name, "at": now, "guess": guess}
        if await self._first(subject, limit, now, place):
            return Place(subject, limit, name)
        # A place per guess, not per request: the same guess twice at once teaches its author nothing new.
        others = {"$setDifference": [{"$map": {"input": "$places", "in": "$$this.guess"}}, [guess]]}
        room = {"$lt": [{"$add": [{"$size": "$tries"}, {"$size": others}]}, limit.most]}
        document = await self._admit(subject, limit, now, room, "places", _with("$places", place))
        return Place(subject, limit, name) if name in _names(document["places"]) else _free_at(document, limit, now)

    async def _first(self, subject: bytes, limit: Limit, now: datetime, place: Document) -> bool:
        """Hold a place for somebody against whom nothing stands, as nearly always; False where anything does, even if past.

        They have room, so a plain write does it, and no look at what became of it.
        """
        nothing = {"tries.0": {"$exists": False}, "places.0": {"$exists": False}}
        held = {"$push": {"places": place}, "$set": {"expiresAt": now + limit.window}, "$setOnInsert": {"tries": []}}
        try:
            await self._writes.update({"_id": subject} | nothing, held, upsert=True)
        except Duplicate:
            # The document is there, and not as it would have to be.
            return False
        return True

    async def count_distinct(self, subject: bytes, limit: Limit, item: bytes, now: datetime) -> datetime | None:
        others = {"$filter": {"input": "$places", "cond": {"$ne": ["$$this.guess", item]}}}
        room = {"$lt": [{"$size": others}, limit.most]}
        entry = {"name": secrets.token_bytes(12), "at": now, "guess": item}
        # In the place of its earlier entry, so that it leaves the window with the last time, and the document stays small.
        document = await self._admit(subject, limit, now, room, "places", _with(others, entry))
        # By the item and not by its entry's name: the same one may have come again meanwhile.
        counted = any(bytes(place["guess"]) == item for place in document["places"])
        return None if counted else _free_at(document, limit, now)

    def give_back(self, place: Place) -> Awaitable[object]:
        return self._writes.update({"_id": place.subject}, {"$pull": {"places": {"name": place.name}}})

    async def _admit(  # noqa: PLR0913, PLR0917  one update, and all that is in it
        self, subject: bytes, limit: Limit, now: datetime, room: Mapping[str, Any], field: str, grown: Document
    ) -> Document:
        """Forget what is past, and let a field grow if there is room; the document as it is afterwards, or a little later.

        Whoever asks looks for their own entry by name, so that it does not matter who else was there meanwhile.
        """

        def recent(entries: str) -> Document:
            known = {"$ifNull": [f"${entries}", []]}
            return {"$filter": {"input": known, "cond": {"$gt": ["$$this.at", now - limit.window]}}}

        return await self._upsert(
            subject,
            [
                {"$set": {"tries": recent("tries"), "places": recent("places")}},
                {"$set": {field: {"$cond": [room, grown, f"${field}"]}, "expiresAt": now + limit.window}},
            ],
        )

    async def _upsert(self, subject: bytes, update: list[Document]) -> Document:
        for _ in range(_ROUNDS):
            try:
                await self._writes.update({"_id": subject}, update, upsert=True)
            except Duplicate:
                # Somebody made the document at the same instant; it is there now.
                continue
            document = await self._reads.get(subject)
            if document is not None:
                return document
        raise AssertionError("an upsert that is no duplicate leaves a document")


def _itself(document: Document) -> Document:
    return document


def _with(entries: str | Document, entry: Document) -> Document:
    """The entries and one more."""
    return {"$concatArrays": [entries, [entry]]}


def _names(entries: list[Document]) -> set[bytes]:
    return {bytes(entry["name"]) for entry in entries}


def _free_at(document: Document, limit: Limit, now: datetime) -> datetime:
    moments = [entry["at"] for entry in (*document["tries"], *document["places"])]
    return min(moments, default=now) + limit.window
