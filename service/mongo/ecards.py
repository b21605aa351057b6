"""E-cards and their codes in the database.

True here: an e-card is one document under an id that follows from its holder; every change is one conditional write on its
version, every guess at its password one on the password that was read. Its code is a document beside it under the same id, so
there is one at a time, and redeeming it is one conditional write. Never here: a password or a code that could be read; the
state of a card, which is asked of the card.
"""

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, Final

from service.ecard_codes import KNOWN, EcardCode, Redemption
from service.ecards import Ecard, News
from service.ids import CardId, EcardId, HolderId, OperatorId, RedemptionId
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads

NAME: Final = "ecards"
CODES: Final = "ecard_codes"


class MongoEcardStore:
    """EcardStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)
        self._reads = Reads(self._collection, _ecard)

    def ecard(self, ecard_id: EcardId) -> Awaitable[Ecard | None]:
        return self._reads.get(ecard_id)

    async def change(self, before: Ecard | None, after: Ecard, news: News) -> bool:
        if before is None:
            try:
                await self._collection.insert(_document(after) | {"news": [_news_document(news)]})
            except Duplicate:
                return False
            return True
        changed: Document = {
            "cardId": after.card_id,
            "level": after.level,
            "changedAt": after.changed_at,
            "requests": [*after.requests],
            "version": after.version,
        }
        if after.password != before.password:
            changed |= {"password": after.password, "wrongTries": 0}
        return await self._collection.update(
            {"_id": before.ecard_id, "holderId": before.holder_id, "version": before.version},
            {"$set": changed, "$push": {"news": _news_document(news)}},
        )

    async def count_try(self, ecard: Ecard, most: int) -> Ecard | None:
        as_read = {"_id": ecard.ecard_id, "holderId": ecard.holder_id, "version": ecard.version, "password": ecard.password}
        counted = await self._collection.change(as_read | {"wrongTries": {"$lt": most}}, {"$inc": {"wrongTries": 1}})
        return _ecard(counted) if counted else None

    async def give_back_tries(self, ecard: Ecard) -> None:
        same = {"_id": ecard.ecard_id, "password": ecard.password, "wrongTries": {"$gte": ecard.wrong_tries}}
        await self._collection.update(same, {"$inc": {"wrongTries": -ecard.wrong_tries}})

    async def tell(self, news: News) -> None:
        told = {"_id": news.ecard_id, "news.id": {"$ne": news.news_id}}
        await self._collection.update(told, {"$push": {"news": _news_document(news)}})

    async def news(self, limit: int) -> list[News]:
        documents = await self._collection.find({"news.id": {"$exists": True}}, projection={"news": 1}, limit=limit)
        return [_news(document["_id"], item) for document in documents for item in document["news"]]

    async def carried(self, news: News) -> None:
        await self._collection.update({"_id": news.ecard_id}, {"$pull": {"news": {"id": news.news_id}}})


class MongoEcardCodeStore:
    """EcardCodeStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(CODES)

    async def put(self, code: EcardCode) -> None:
        fresh: Document = {
            "holderId": code.holder_id,
            "cardId": code.card_id,
            "code": code.code,
            "level": code.level,
            "ecardVersion": code.ecard_version,
            "askedBy": code.asked_by,
            "expiresAt": code.expires_at,
            "redemption": None,
            "claimedBy": None,
        }
        known = {"$push": {"known": {"$each": [code.code], "$slice": -KNOWN}}}
        try:
            await self._collection.update({"_id": code.ecard_id}, {"$set": fresh, **known}, upsert=True)
        except Duplicate:
            # Somebody made the document at the same instant; it is there now.
            await self._collection.update({"_id": code.ecard_id}, {"$set": fresh, **known})

    async def find(self, code: bytes) -> EcardCode | None:
        document = await self._collection.find_one({"known": code})
        return _code(document) if document else None

    async def claim(self, code: EcardCode, operator_id: OperatorId, now: datetime) -> bool:
        live = {"_id": code.ecard_id, "code": code.code, "redemption": None, "expiresAt": {"$gt": now}}
        # Codes of an earlier version have no such field; None finds those too.
        free = {"claimedBy": {"$in": [None, operator_id]}}
        return await self._collection.change(live | free, {"$set": {"claimedBy": operator_id}}) is not None

    async def redeem(self, code: EcardCode, redemption: Redemption) -> bool:
        live = {"_id": code.ecard_id, "code": code.code, "redemption": None, "expiresAt": {"$gt": redemption.at}}
        done = {"id": redemption.redemption_id, "at": redemption.at, "by": redemption.by}
        return await self._collection.update(live, {"$set": {"redemption": done}})


def _document(ecard: Ecard) -> Document:
    return {
        "_id": ecard.ecard_id,
        "holderId": ecard.holder_id,
        "cardId": ecard.card_id,
        "level": ecard.level,
        "password": ecard.password,
        "wrongTries": ecard.wrong_tries,
        "version": ecard.version,
        "appliedAt": ecard.applied_at,
        "changedAt": ecard.changed_at,
        "requests": [*ecard.requests],
    }


def _ecard(document: Mapping[str, Any]) -> Ecard:
    return Ecard(
        ecard_id=EcardId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        card_id=CardId(document["cardId"]),
        level=document["level"],
        password=document["password"],
        wrong_tries=document["wrongTries"],
        version=document["version"],
        applied_at=document["appliedAt"],
        changed_at=document["changedAt"],
        requests=tuple(bytes(mark) for mark in document["requests"]),
    )


def _news_document(news: News) -> Document:
    return {"id": news.news_id, "name": news.name, "at": news.at, "tell": news.tell, "locale": news.locale}


def _news(ecard_id: str, item: Mapping[str, Any]) -> News:
    return News(item["id"], EcardId(ecard_id), item["name"], item["at"], HolderId(item["tell"]), item["locale"])


def _code(document: Mapping[str, Any]) -> EcardCode:
    done = document["redemption"]
    at: datetime | None = done["at"] if done else None
    return EcardCode(
        ecard_id=EcardId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        card_id=CardId(document["cardId"]),
        code=bytes(document["code"]),
        level=document["level"],
        ecard_version=document["ecardVersion"],
        asked_by=HolderId(document["askedBy"]),
        expires_at=document["expiresAt"],
        redemption=Redemption(RedemptionId(done["id"]), at, OperatorId(done["by"])) if at is not None else None,
    )
