"""Insurance relations in the database.

True here: a relation is a document of its own, whose id follows from person, employer and which it is between the two, so
that many requests at once make one; every change is one conditional write on its version. What happened lies in the document
until its consequences are drawn. Never here: a name or a number of anybody; the document says whose it is by id.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from service.ids import HolderId, InstitutionId, RegistrationId
from service.insurance import Cover, Ending, News, NewsName, Relation
from service.locale import Locale
from service.mongo.client import Database, Document, Duplicate
from service.mongo.writes import Writes

NAME: Final = "insurance"
# Somebody with more of them has had a new employer every few months for a lifetime.
_MOST: Final = 200
_STATE: Final = {"news": 0}


class MongoRelationStore:
    """RelationStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)

    async def relation(self, registration_id: RegistrationId) -> Relation | None:
        document = await self._collection.find_one({"_id": registration_id}, _STATE)
        return _relation(document) if document else None

    async def of_holder(self, holder_id: HolderId) -> list[Relation]:
        newest = [("registeredAt", -1), ("_id", 1)]
        documents = await self._collection.find({"holderId": holder_id}, projection=_STATE, sort=newest, limit=_MOST)
        return [_relation(document) for document in documents]

    async def add(self, relation: Relation, locale: Locale) -> bool:
        document = relation_document(relation) | {"news": [_news(relation, "registered", locale)]}
        try:
            await self._writes.insert(document)
        except Duplicate:
            return False
        return True

    async def change(self, before: Relation, after: Relation, locale: Locale) -> Relation | None:
        changed = {"covers": [_cover_document(cover) for cover in after.covers], "ending": _ending_document(after.ending)}
        name: NewsName = "ended" if after.ending is not None else "widened"
        document = await self._collection.change(
            {"_id": before.registration_id, "holderId": before.holder_id, "version": before.version},
            {"$set": changed, "$inc": {"version": 1}, "$push": {"news": _news(after, name, locale, before.version + 1)}},
            projection=_STATE,
        )
        return _relation(document) if document else None

    async def news(self, limit: int) -> list[News]:
        documents = await self._collection.find({"news.id": {"$exists": True}}, limit=limit)
        return [
            News(item["id"], item["name"], _relation(document), item["locale"])
            for document in documents
            for item in document["news"]
        ]

    async def carried(self, news: News) -> None:
        relation = news.relation
        whose = {"_id": relation.registration_id, "holderId": relation.holder_id}
        await self._collection.update(whose, {"$pull": {"news": {"id": news.news_id}}})

    async def put(self, relation: Relation) -> None:
        """Put a relation of which everybody has heard, for a sandbox."""
        await self._writes.replace(relation_document(relation))


def relation_document(relation: Relation) -> Document:
    """The document of a relation of which there is no news."""
    return {
        "_id": relation.registration_id,
        "holderId": relation.holder_id,
        "employerId": relation.employer_id,
        "number": relation.number,
        "regionCode": relation.region_code,
        "covers": [_cover_document(cover) for cover in relation.covers],
        "since": relation.since.isoformat(),
        "registeredAt": relation.registered_at,
        "overdueDays": relation.overdue_days,
        "by": relation.by,
        "request": relation.request,
        "ending": _ending_document(relation.ending),
        "version": relation.version,
        "news": [],
    }


def _news(relation: Relation, name: NewsName, locale: Locale, version: int = 1) -> Document:
    return {"id": f"{relation.registration_id}:{version}", "name": name, "locale": locale}


def _cover_document(cover: Cover) -> Document:
    return {"code": cover.code, "since": cover.since.isoformat()}


def _ending_document(ending: Ending | None) -> Document | None:
    if ending is None:
        return None
    return {"on": ending.on.isoformat(), "at": ending.at, "by": ending.by, "reason": ending.reason}


def _relation(document: Mapping[str, Any]) -> Relation:
    employer, ending = document["employerId"], document["ending"]
    return Relation(
        registration_id=RegistrationId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        employer_id=InstitutionId(employer) if employer is not None else None,
        number=document["number"],
        region_code=document["regionCode"],
        covers=tuple(Cover(item["code"], date.fromisoformat(item["since"])) for item in document["covers"]),
        since=date.fromisoformat(document["since"]),
        registered_at=document["registeredAt"],
        overdue_days=document["overdueDays"],
        by=document["by"],
        request=bytes(document["request"]),
        ending=Ending(date.fromisoformat(ending["on"]), ending["at"], ending["by"], ending["reason"]) if ending else None,
        version=document["version"],
    )
