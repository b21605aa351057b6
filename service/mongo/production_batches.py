"""Production batches in the database: one document each, with the checks and the applications it was made for.

True here: a word on a check is one conditional write on id and version; whether anything is due is a field that is there or
not. Which batch an application is of, is written with the application.
"""

from collections.abc import Collection
from datetime import datetime
from types import MappingProxyType
from typing import Final

from service.ids import ApplicationId, BatchId
from service.mongo.client import Database, Document, Duplicate
from service.production_batches import CHECKS, Batch

NAME: Final = "production_batches"


class MongoBatchStore:
    """BatchStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def batch(self, batch_id: BatchId) -> Batch | None:
        document = await self._collection.find_one({"_id": batch_id})
        return _batch(document) if document else None

    async def has_passed(self, region_code: str, supplier: str, product: str) -> bool:
        query = {"regionCode": region_code, "supplier": supplier, "product": product, "isTest": True, "state": "released"}
        return await self._collection.find_one(query, {"_id": 1}) is not None

    async def add(self, batch: Batch) -> bool:
        try:
            await self._collection.insert(_document(batch))
        except Duplicate:
            return False
        return True

    async def change(self, before: Batch, after: Batch) -> Batch | None:
        whole = _document(after)
        changed = {field: whole[field] for field in ("state", "checks", "by", "role", "request", "locale", "due", "version")}
        query = {"_id": before.batch_id, "regionCode": before.region_code, "version": before.version}
        document = await self._collection.change(query, {"$set": changed})
        return _batch(document) if document else None

    async def take_off(self, batch: Batch, application_id: ApplicationId) -> None:
        query = {"_id": batch.batch_id, "regionCode": batch.region_code}
        await self._collection.update(query, {"$pull": {"applicationIds": application_id}})

    async def settled(self, batch: Batch) -> bool:
        query = {"_id": batch.batch_id, "regionCode": batch.region_code, "version": batch.version}
        return await self._collection.update(query, {"$unset": {"due": ""}})

    async def of_regions(self, region_codes: Collection[str], after: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        query: Document = {"regionCode": {"$in": sorted(region_codes)}}
        if after is not None:
            at, batch_id = after
            query["$or"] = [{"createdAt": {"$lt": at}}, {"createdAt": at, "_id": {"$lt": batch_id}}]
        documents = await self._collection.find(query, sort=[("createdAt", -1), ("_id", -1)], limit=limit)
        return [_batch(document) for document in documents]

    async def owing(self, limit: int) -> list[Batch]:
        documents = await self._collection.find({"due": True}, limit=limit)
        return [_batch(document) for document in documents]


def _document(batch: Batch) -> Document:
    document: Document = {
        "_id": batch.batch_id,
        "supplier": batch.supplier,
        "product": batch.product,
        "regionCode": batch.region_code,
        "isTest": batch.is_test,
        "state": batch.state,
        "checks": dict(batch.checks),
        "applicationIds": list(batch.application_ids),
        "createdAt": batch.created_at,
        "by": batch.by,
        "role": batch.role,
        "request": batch.request,
        "locale": batch.locale,
        "version": batch.version,
    }
    return document | ({"due": True} if batch.due else {})


def _batch(document: Document) -> Batch:
    return Batch(
        batch_id=BatchId(document["_id"]),
        supplier=document["supplier"],
        product=document["product"],
        region_code=document["regionCode"],
        is_test=document["isTest"],
        state=document["state"],
        checks=MappingProxyType({check: document["checks"][check] for check in CHECKS}),
        application_ids=tuple(ApplicationId(one) for one in document["applicationIds"]),
        created_at=document["createdAt"],
        by=document["by"],
        role=document["role"],
        request=bytes(document["request"]),
        locale=document["locale"],
        due=document.get("due", False),
        version=document["version"],
    )
