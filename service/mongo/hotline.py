"""Codes of the hotline in the database.

True here: there is one document a person, so a new code takes the place of the old; a try is counted and a code used up by
one conditional write each. Never here: a code, a ticket, a mobile or an ID number, not even sealed.
"""

from datetime import datetime
from typing import Final

from service.hotline import CallCode
from service.mongo.client import Database, Document

NAME: Final = "hotline_codes"


class MongoCallCodeStore:
    """CallCodeStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def put(self, code: CallCode) -> None:
        await self._collection.replace(
            {
                "_id": code.person,
                "call": code.call,
                "code": code.code,
                "known": code.known,
                "tries": code.tries,
                "sentAt": code.sent_at,
                "expiresAt": code.expires_at,
                "usedBy": code.used_by,
            }
        )

    async def code(self, person: bytes, call: bytes) -> CallCode | None:
        document = await self._collection.find_one({"_id": person, "call": call})
        return _code(document) if document else None

    async def count_try(self, person: bytes, call: bytes, request: bytes, most: int, now: datetime) -> CallCode | None:
        open_ = {"usedBy": None, "tries": {"$lt": most}, "expiresAt": {"$gt": now}}
        # Without a mark there is no request that could come again.
        its_own = [{"usedBy": request}] if request else []
        document = await self._collection.change(
            {"_id": person, "call": call, "$or": [open_, *its_own]}, {"$inc": {"tries": 1}}
        )
        return _code(document) if document else None

    async def use(self, code: CallCode, request: bytes) -> bool:
        same = {"_id": code.person, "call": code.call, "code": code.code, "usedBy": {"$in": [None, *[request] * bool(request)]}}
        return await self._collection.update(same, {"$set": {"usedBy": request}})

    async def give_back(self, person: bytes, call: bytes, request: bytes) -> None:
        await self._collection.update({"_id": person, "call": call, "usedBy": request}, {"$set": {"usedBy": None}})


def _code(document: Document) -> CallCode:
    used_by = document["usedBy"]
    return CallCode(
        person=bytes(document["_id"]),
        call=bytes(document["call"]),
        code=bytes(document["code"]),
        known=document["known"],
        tries=document["tries"],
        sent_at=document["sentAt"],
        expires_at=document["expiresAt"],
        used_by=bytes(used_by) if used_by is not None else None,
    )
