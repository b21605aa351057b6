"""Erasures in the database: who was erased, and the sweep through everything that goes, by the rows of holdings.py.

True here: a step of an erasure is one conditional write on the step before; a sweep goes row by row, sessions first and the
person last, because the person's document says where messages to them went. Never here: a number or a name; what is left of
an erasure is the opaque id and the moments.
"""

from datetime import datetime
from typing import Final

from service.erasures import Erasure
from service.ids import ErasureId, HolderId
from service.mongo.client import Database, Document, Duplicate
from service.mongo.holdings import HOLDINGS, MESSAGES, Holding
from service.mongo.marks import addresses_of
from service.vault import Vault

NAME: Final = "erasures"
# Where it is written down that something is still to be carried, of documents that name their holder.
_WAITING: Final = (
    ("cards", "outbox.id"),
    ("insurance", "news.id"),
    ("applications", "due.id"),
    ("approvals", "outbox.id"),
    ("ecards", "news.id"),
    ("sessions", "news.topic"),
    ("dependants", "news.id"),
    ("consents", "news.id"),
)
_UNDER_WAY: Final = {"state": {"$in": ["due", "sending"]}}


class MongoErasureStore:
    """ErasureStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._collection = database.collection(NAME)

    async def erasure(self, erasure_id: ErasureId) -> Erasure | None:
        document = await self._collection.find_one({"_id": erasure_id})
        return _erasure(document) if document else None

    async def change(self, before: Erasure | None, after: Erasure) -> bool:
        document = _document(after)
        if before is None:
            try:
                await self._collection.insert(document)
            except Duplicate:
                return False
            return True
        del document["_id"]
        as_read = {"_id": before.erasure_id, "number": before.number, "step": before.step}
        done = {"$unset": {"marks": ""}} if after.step == "done" else {}
        return await self._collection.update(as_read, {"$set": document, **done})

    async def withdraw(self, erasure: Erasure) -> None:
        await self._collection.delete({"_id": erasure.erasure_id, "number": erasure.number, "step": "asked"})

    async def due(self, now: datetime, limit: int) -> list[Erasure]:
        query: Document = {"step": {"$in": ["asked", "told", "swept"]}, "dueAt": {"$lte": now}}
        return [_erasure(document) for document in await self._collection.find(query, limit=limit)]

    async def end_sessions(self, holder_id: HolderId, at: datetime) -> None:
        # Their documents go with the sweep: somebody may still have to be told of one.
        alive = {"holderId": holder_id, "endedAt": None}
        over = {"$set": {"endedAt": at, "endReason": "erasure"}}
        await self._database.collection("sessions").update_all(alive, over)

    async def approval_pending(self, holder_id: HolderId, now: datetime) -> bool:
        pending = {"state": "pending", "expiresAt": {"$gt": now}}
        query: Document = {"holderId": holder_id, "$or": [pending, {"outbox.id": {"$exists": True}}]}
        return await self._database.collection("approvals").find_one(query, {"_id": 1}) is not None

    async def at_rest(self, holder_id: HolderId) -> bool:
        for name, field in _WAITING:
            query: Document = {"holderId": holder_id, field: {"$exists": True}}
            if await self._database.collection(name).find_one(query, {"_id": 1}) is not None:
                return False
        marks = await addresses_of(self._database, self._vault, holder_id)
        to_them = MESSAGES.of(holder_id, marks) | _UNDER_WAY
        return await self._database.collection("messages").find_one(to_them, {"_id": 1}) is None

    async def sweep(self, erasure: Erasure) -> bool:
        marks = await self._marks(erasure)
        for holding in HOLDINGS:
            # A sandbox that is put back meanwhile forgets who was to be erased.
            if not await self._stands(erasure):
                return False
            await self._fate(holding, holding.of(erasure.holder_id, marks))
        return True

    async def _stands(self, erasure: Erasure) -> bool:
        query = {"_id": erasure.erasure_id, "number": erasure.number, "step": erasure.step}
        return await self._collection.find_one(query, {"_id": 1}) is not None

    async def _marks(self, erasure: Erasure) -> list[bytes]:
        """Where messages to them went: kept until all is done, because after the first sweep nothing else says it."""
        whose = {"_id": erasure.erasure_id, "number": erasure.number}
        marks = await addresses_of(self._database, self._vault, erasure.holder_id)
        if marks:
            await self._collection.update({**whose, "step": erasure.step}, {"$set": {"marks": marks}})
            return marks
        found = await self._collection.find_one(whose)
        return [bytes(mark) for mark in (found or {}).get("marks", [])]

    async def _fate(self, holding: Holding, whose: Document) -> None:
        documents = self._database.collection(holding.collection)
        if holding.fate == "deleted":
            await documents.delete_all(whose)
        elif holding.fate == "emptied":
            for path in holding.emptied:
                # Only what is there: a part that was never made is not made by emptying it.
                await documents.update_all({**whose, path: {"$ne": None}}, {"$set": {path: None}})


def _document(erasure: Erasure) -> Document:
    return {
        "_id": erasure.erasure_id,
        "holderId": erasure.holder_id,
        "number": erasure.number,
        "step": erasure.step,
        "askedAt": erasure.asked_at,
        "dueAt": erasure.due_at,
        "locale": erasure.locale,
        "request": erasure.request,
    }


def _erasure(document: Document) -> Erasure:
    return Erasure(
        erasure_id=ErasureId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        number=document["number"],
        step=document["step"],
        asked_at=document["askedAt"],
        due_at=document["dueAt"],
        locale=document["locale"],
        request=bytes(document["request"]),
    )
