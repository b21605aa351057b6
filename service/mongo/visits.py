"""Visits in the database.

True here: a visit is one document, kept once under its id and never changed. Never here: anything about the person but whose
card it was.
"""

from contextlib import suppress
from typing import Final

from service.ids import CardId, HolderId, InstitutionId, OperatorId, VisitId
from service.mongo.client import Database, Document, Duplicate
from service.visits import Visit

NAME: Final = "visits"


class MongoVisitStore:
    """VisitStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def add(self, visit: Visit) -> Visit:
        with suppress(Duplicate):
            await self._collection.insert(
                {
                    "_id": visit.visit_id,
                    "cardId": visit.card_id,
                    "holderId": visit.holder_id,
                    "kind": visit.kind,
                    "at": visit.at,
                    "by": visit.by,
                    "institutionId": visit.institution_id,
                    "guardian": visit.guardian,
                    "activated": visit.activated,
                }
            )
            return visit
        document = await self._collection.find_one({"_id": visit.visit_id})
        if document is None:
            raise AssertionError("a visit is never deleted")
        return _visit(document)


def _visit(document: Document) -> Visit:
    guardian = document["guardian"]
    return Visit(
        visit_id=VisitId(document["_id"]),
        card_id=CardId(document["cardId"]),
        holder_id=HolderId(document["holderId"]),
        kind=document["kind"],
        at=document["at"],
        by=OperatorId(document["by"]),
        institution_id=InstitutionId(document["institutionId"]),
        guardian=HolderId(guardian) if guardian else None,
        activated=document["activated"],
    )
