"""Applications in the database: one document each, with its stages and with what is still to be done.

True here: a step is one conditional write on id and version; whether one is under way is a field that is there or not, so that
a unique index lets a person have one of a kind; the numbers of a new card are sealed for this document, and no two applications
have the same, by their blind indexes. Never here: a name or an ID number; those are the holder's.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from service.applications import (
    Application,
    ApplicationKind,
    ApplicationStage,
    Due,
    Made,
    Reached,
)
from service.errors import Refusal
from service.ids import ApplicationId, BatchId, CardId, HolderId
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.vault import Vault

NAME: Final = "applications"


class MongoApplicationStore:
    """ApplicationStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault
        self._reads = Reads(self._collection, self._application)

    async def application(self, application_id: ApplicationId) -> Application | None:
        return await self._reads.get(application_id)

    async def add(self, application: Application) -> bool:
        try:
            await self._collection.insert(self._document(application))
        except Duplicate:
            return False
        return True

    async def running(self, holder_id: HolderId, kind: ApplicationKind) -> Application | None:
        document = await self._collection.find_one({"holderId": holder_id, "kind": kind, "running": True})
        return self._application(document) if document else None

    async def of_holder(self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int) -> list[Application]:
        return await self._newest({"holderId": holder_id}, after, limit)

    async def of_regions(
        self,
        region_codes: Collection[str],
        stage: ApplicationStage | None,
        bank_code: str | None,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Application]:
        query: Document = {"regionCode": {"$in": sorted(region_codes)}}
        if stage is not None:
            query["stage"] = stage
        if bank_code is not None:
            query["bankCode"] = bank_code
        return await self._newest(query, after, limit)

    async def _newest(self, query: Document, after: tuple[datetime, str] | None, limit: int) -> list[Application]:
        if after is not None:
            at, application_id = after
            query["$or"] = [{"createdAt": {"$lt": at}}, {"createdAt": at, "_id": {"$lt": application_id}}]
        documents = await self._collection.find(query, sort=[("createdAt", -1), ("_id", -1)], limit=limit)
        return [self._application(document) for document in documents]

    async def change(self, before: Application, after: Application) -> Application | None:
        whole = self._document(after)
        gone = [field for field in ("running", "made", "batchId", "underTest") if field not in whole]
        update: Document = {
            "$set": {
                field: whole[field]
                for field in ("stage", "running", "made", "batchId", "underTest", "collectedBy", "rejection")
                if field in whole
            },
            "$inc": {"version": 1},
            "$push": {
                "stages": {"$each": [_reached_document(one) for one in after.stages[len(before.stages) :]]},
                "due": {"$each": [_due_document(one) for one in after.due[len(before.due) :]]},
            },
        }
        if gone:
            update["$unset"] = dict.fromkeys(gone, "")
        query = {"_id": before.application_id, "holderId": before.holder_id, "version": before.version}
        try:
            document = await self._collection.change(query, update)
        except Duplicate:
            raise Refusal("card_number_taken") from None
        return self._application(document) if document else None

    async def in_batch(self, batch_id: BatchId, limit: int, *, under_test: bool) -> list[Application]:
        query: Document = {"batchId": batch_id, "running": True} | ({"underTest": True} if under_test else {})
        documents = await self._collection.find(query, sort=[("_id", 1)], limit=limit)
        return [self._application(document) for document in documents]

    async def owing(self, limit: int) -> list[Application]:
        documents = await self._collection.find({"due.id": {"$exists": True}}, limit=limit)
        return [self._application(document) for document in documents]

    async def settled(self, application: Application, done: Iterable[Due]) -> None:
        ids = [due.due_id for due in done]
        if ids:
            query = {"_id": application.application_id, "holderId": application.holder_id}
            await self._collection.update(query, {"$pull": {"due": {"id": {"$in": ids}}}})

    def _document(self, application: Application) -> Document:
        document: Document = {
            "_id": application.application_id,
            "holderId": application.holder_id,
            "kind": application.kind,
            "regionCode": application.region_code,
            "bankCode": application.bank_code,
            "confirmedBy": application.confirmed_by,
            "reason": application.reason,
            "replaces": application.replaces,
            "locale": application.locale,
            "createdAt": application.created_at,
            "stage": application.stage,
            "stages": [_reached_document(reached) for reached in application.stages],
            "due": [_due_document(due) for due in application.due],
            "collectedBy": application.collected_by,
            "rejection": application.rejection,
            "version": application.version,
        }
        if application.running:
            document["running"] = True
        if application.made is not None:
            document["made"] = self._made_document(application.application_id, application.made)
        if application.batch_id is not None:
            document["batchId"] = application.batch_id
        if application.under_test:
            document["underTest"] = True
        return document

    def _made_document(self, application_id: ApplicationId, made: Made) -> Document:
        sealed, index = self._vault.sealing(NAME, application_id), self._vault.index
        return {
            "cardId": made.card_id,
            "number": sealed("made.number", made.number),
            "identificationCode": sealed("made.identificationCode", made.identification_code),
            "identificationCodeIndex": index("identificationCode", made.identification_code),
            "bankAccount": sealed("made.bankAccount", made.bank_account),
            "bankAccountIndex": index("bankAccount", made.bank_account),
        }

    def _application(self, document: Document) -> Application:
        made = document.get("made")
        batch_id = document.get("batchId")
        replaces = document["replaces"]
        return Application(
            application_id=ApplicationId(document["_id"]),
            holder_id=HolderId(document["holderId"]),
            kind=document["kind"],
            region_code=document["regionCode"],
            bank_code=document["bankCode"],
            confirmed_by=document["confirmedBy"],
            reason=document["reason"],
            replaces=CardId(replaces) if replaces else None,
            locale=document["locale"],
            stages=tuple(_reached(item) for item in document["stages"]),
            version=document["version"],
            due=tuple(_due(item) for item in document["due"]),
            made=self._made(document["_id"], made) if made else None,
            batch_id=BatchId(batch_id) if batch_id else None,
            under_test=document.get("underTest", False),
            collected_by=document["collectedBy"],
            rejection=document["rejection"],
        )

    def _made(self, application_id: str, item: Mapping[str, Any]) -> Made:
        def opened(field: str) -> str:
            return self._vault.open(NAME, f"made.{field}", application_id, item[field])

        return Made(CardId(item["cardId"]), opened("number"), opened("identificationCode"), opened("bankAccount"))


def _reached_document(reached: Reached) -> Document:
    return {
        "stage": reached.stage,
        "at": reached.at,
        "by": reached.by,
        "role": reached.role,
        "request": reached.request,
    }


def _reached(item: Mapping[str, Any]) -> Reached:
    return Reached(ApplicationStage(item["stage"]), item["at"], item["by"], item["role"], bytes(item["request"]))


def _due_document(due: Due) -> Document:
    return {"id": due.due_id, "tell": due.tell, "discard": due.discard}


def _due(item: Mapping[str, Any]) -> Due:
    return Due(item["id"], item["tell"], CardId(item["discard"]) if item["discard"] else None)
