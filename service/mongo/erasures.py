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
from service.mongo.dependants import MongoDependantStore
from service.mongo.holdings import HOLDINGS, MESSAGES, Holding
from service.mongo.marks import addresses_of
from service.vault import Vault

NAME: Final = "erasures"
# Where it is written down that something is still to be carried: the collection, who hears of it, and what is to be carried.
_WAITING: Final = (
    ("cards", "holderId", "outbox.id"),
    ("insurance", "holderId", "news.id"),
    ("applications", "holderId", "due.id"),
    ("approvals", "holderId", "outbox.id"),
    ("ecards", "holderId", "news.id"),
    ("sessions", "holderId", "news.topic"),
    ("dependants", "holderId", "news.id"),
    ("dependants", "guardianId", "news.id"),
    ("consents", "holderId", "news.id"),
    ("contacts", "_id", "news.id"),
)
# What an erasure keeps of an earlier one until it is done itself, and gives back when it is withdrawn.
_OF_THE_EARLIER: Final = ("askedAt", "dueAt", "locale", "request")
_LINKS_AT_A_TIME: Final = 20
_UNDER_WAY: Final = {"state": {"$in": ["due", "sending"]}}


class MongoErasureStore:
    """ErasureStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._collection = database.collection(NAME)
        self._links = MongoDependantStore(database, vault)

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
        if before.step == "done":
            earlier = _document(before)
            document["earlier"] = {name: earlier[name] for name in _OF_THE_EARLIER}
        done = {"$unset": {"marks": "", "earlier": ""}} if after.step == "done" else {}
        return await self._collection.update(_as_read(before), {"$set": document, **done})

    async def withdraw(self, erasure: Erasure) -> bool:
        query: Document = {**_as_read(erasure), "step": {"$in": ["asked", "told"]}}
        found = await self._collection.find_one(query, {"earlier": 1})
        if found is None:
            return False
        if "earlier" not in found:
            return await self._collection.delete(query)
        done = {**found["earlier"], "number": erasure.number - 1, "step": "done"}
        return await self._collection.update(query, {"$set": done, "$unset": {"marks": "", "earlier": ""}})

    async def due(self, now: datetime, limit: int) -> list[Erasure]:
        query: Document = {"step": {"$in": ["asked", "told", "swept"]}, "dueAt": {"$lte": now}}
        return [_erasure(document) for document in await self._collection.find(query, limit=limit)]

    async def end_sessions(self, holder_id: HolderId, at: datetime) -> None:
        # Their documents go with the sweep: somebody may still have to be told of one.
        alive = {"holderId": holder_id, "endedAt": None}
        over = {"$set": {"endedAt": at, "endReason": "erasure"}}
        await self._database.collection("sessions").update_all(alive, over)

    async def end_links(self, erasure: Erasure, at: datetime) -> None:
        after = None
        while links := await self._links.links_of(erasure.holder_id, after, _LINKS_AT_A_TIME):
            for link in links:
                await self._links.end(link, at, erasure.request, erasure.locale)
            after = links[-1].dependant_id

    async def approval_pending(self, holder_id: HolderId, now: datetime) -> bool:
        pending = {"state": "pending", "expiresAt": {"$gt": now}}
        query: Document = {"holderId": holder_id, "$or": [pending, {"outbox.id": {"$exists": True}}]}
        return await self._database.collection("approvals").find_one(query, {"_id": 1}) is not None

    async def at_rest(self, holder_id: HolderId) -> bool:
        for name, whose, field in _WAITING:
            query: Document = {whose: holder_id, field: {"$exists": True}}
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
        return await self._collection.find_one(_as_read(erasure), {"_id": 1}) is not None

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


def _as_read(erasure: Erasure) -> Document:
    """This very one at this step: one that was withdrawn leaves its number to the next."""
    return {
        "_id": erasure.erasure_id,
        "number": erasure.number,
        "askedAt": erasure.asked_at,
        "step": erasure.step,
    }


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
