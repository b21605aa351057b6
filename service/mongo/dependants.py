"""Links between guardians and dependants in the database.

True here: a link is a document of its own, because it begins and ends apart from both people. Its id follows from the two,
so there is one a pair; a seat of the dependant's is one link's at a time, by a unique index, so that many at once take no
more seats than there are. A link that was ended stays, without a seat. What both are to hear of it lies in it until they
were told. Never here: the day it ends in plain; that is a birthday, some years on.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from service.dependant_news import DependantNews, Turn
from service.dependants import MOST_GUARDIANS, Dependant
from service.ids import DependantId, HolderId
from service.locale import DEFAULT_LOCALE, Locale
from service.mongo.client import Database, Document, Duplicate
from service.mongo.writes import Writes
from service.vault import Vault

NAME: Final = "dependants"


class MongoDependantStore:
    """DependantStore and DependantNewsStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)
        self._vault = vault

    async def dependant(self, dependant_id: DependantId) -> Dependant | None:
        document = await self._collection.find_one({"_id": dependant_id})
        return self._link(document) if document else None

    async def seated(self, holder_id: HolderId) -> Sequence[Dependant]:
        query: Document = {"holderId": holder_id, "seat": {"$exists": True}}
        return [self._link(document) for document in await self._collection.find(query, limit=MOST_GUARDIANS)]

    async def links_of(self, guardian_id: HolderId, after: DependantId | None, limit: int) -> list[Dependant]:
        query: Document = {"guardianId": guardian_id, "endedAt": None} | ({"_id": {"$gt": after}} if after else {})
        documents = await self._collection.find(query, sort=[("_id", 1)], limit=limit)
        return [self._link(document) for document in documents]

    async def link(self, before: Dependant | None, link: Dependant, locale: Locale = DEFAULT_LOCALE) -> bool:
        document, news = self._document(link), _news_item(link, "linked", locale)
        try:
            if before is None:
                await self._collection.insert(document | {"news": [news]})
                return True
            del document["_id"]
            return await self._collection.update(_as_read(before), {"$set": document, "$push": {"news": news}})
        except Duplicate:
            # Somebody made this link, or took this seat, at the same instant.
            return False

    async def end(self, link: Dependant, at: datetime, request: bytes, locale: Locale = DEFAULT_LOCALE) -> bool:
        ended: Document = {
            "$set": {"endedAt": at, "endedBy": request},
            "$unset": {"seat": ""},
            "$push": {"news": _news_item(link, "ended", locale)},
        }
        return await self._collection.update(_as_read(link), ended)

    async def news(self, limit: int) -> list[DependantNews]:
        documents = await self._collection.find({"news.id": {"$exists": True}}, limit=limit)
        return [
            DependantNews(
                item["id"],
                DependantId(document["_id"]),
                HolderId(document["guardianId"]),
                HolderId(document["holderId"]),
                item["turn"],
                item["locale"],
            )
            for document in documents
            for item in document["news"]
        ]

    async def carried(self, news: DependantNews) -> None:
        whose = {"_id": news.dependant_id, "holderId": news.holder_id}
        await self._collection.update(whose, {"$pull": {"news": {"id": news.news_id}}})

    async def put(self, link: Dependant) -> None:
        """Put a link, for a sandbox."""
        await self._writes.replace(self._document(link))

    def _document(self, link: Dependant) -> Document:
        return {
            "_id": link.dependant_id,
            "guardianId": link.guardian_id,
            "holderId": link.holder_id,
            "relationship": link.relationship,
            "until": self._vault.seal(NAME, "until", link.dependant_id, link.until.isoformat()),
            "seat": link.seat,
            "version": link.version,
            "linkedBy": link.linked_by,
            "endedAt": link.ended_at,
            "endedBy": link.ended_by,
        }

    def _link(self, document: Document) -> Dependant:
        ended_by = document["endedBy"]
        return Dependant(
            dependant_id=DependantId(document["_id"]),
            guardian_id=HolderId(document["guardianId"]),
            holder_id=HolderId(document["holderId"]),
            relationship=document["relationship"],
            until=date.fromisoformat(self._vault.open(NAME, "until", document["_id"], document["until"])),
            seat=document.get("seat"),
            version=document["version"],
            linked_by=bytes(document["linkedBy"]),
            ended_at=document["endedAt"],
            ended_by=bytes(ended_by) if ended_by is not None else None,
        )


def _news_item(link: Dependant, turn: Turn, locale: Locale) -> Document:
    return {"id": f"{link.dependant_id}:{link.version}:{turn}", "turn": turn, "locale": locale}


def _as_read(link: Dependant) -> Document:
    return {
        "_id": link.dependant_id,
        "holderId": link.holder_id,
        "version": link.version,
        "endedAt": link.ended_at,
    }
