"""People in the database.

True here: a person is found by the blind index of the ID number only; names are in no index; a link between guardian
and dependant is a document of its own, because it begins and ends apart from both.
"""

from collections.abc import Awaitable
from datetime import date, datetime
from typing import Final

from service.holders import Access, Dependant, Holder
from service.ids import DependantId, HolderId
from service.mongo.client import Database, Document
from service.mongo.reads import Reads
from service.vault import Vault

NAME: Final = "holders"
DEPENDANTS: Final = "dependants"
ACCESSES: Final = "accesses"


class MongoHolderStore:
    """HolderStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._dependants = database.collection(DEPENDANTS)
        self._vault = vault
        self._reads = Reads(self._collection, self._holder)

    def holder(self, holder_id: HolderId) -> Awaitable[Holder | None]:
        return self._reads.get(holder_id)

    async def holder_by_number(self, id_number: str) -> Holder | None:
        document = await self._collection.find_one({"idNumberIndex": self._vault.index("idNumber", id_number)})
        return self._holder(document) if document else None

    async def dependant(self, dependant_id: DependantId) -> Dependant | None:
        document = await self._dependants.find_one({"_id": dependant_id})
        if document is None:
            return None
        return Dependant(
            dependant_id,
            HolderId(document["guardianId"]),
            HolderId(document["holderId"]),
            document["relationship"],
            date.fromisoformat(self._vault.open(DEPENDANTS, "until", dependant_id, document["until"])),
        )

    async def put(self, holder: Holder) -> None:
        """Put a person, for a sandbox."""
        await self._collection.replace(holder_document(self._vault, holder))

    async def put_dependant(self, dependant: Dependant) -> None:
        """Put a link, for a sandbox."""
        await self._dependants.replace(
            {
                "_id": dependant.dependant_id,
                "guardianId": dependant.guardian_id,
                "holderId": dependant.holder_id,
                "relationship": dependant.relationship,
                # Sealed: it is a birthday, some years on.
                "until": self._vault.seal(DEPENDANTS, "until", dependant.dependant_id, dependant.until.isoformat()),
            }
        )

    def _holder(self, document: Document) -> Holder:
        def opened(field: str) -> str:
            return self._vault.open(NAME, field, document["_id"], document[field])

        return Holder(
            HolderId(document["_id"]),
            opened("name"),
            opened("idNumber"),
            opened("mobile"),
            document["regionCode"],
            document["queryPassword"],
        )


def holder_document(vault: Vault, holder: Holder) -> Document:
    """The document of a person, sealed."""
    sealed = vault.sealing(NAME, holder.holder_id)
    return {
        "_id": holder.holder_id,
        "name": sealed("name", holder.name),
        "idNumber": sealed("idNumber", holder.id_number),
        "idNumberIndex": vault.index("idNumber", holder.id_number),
        "mobile": sealed("mobile", holder.mobile),
        "regionCode": holder.region_code,
        "queryPassword": holder.query_password,
    }


class MongoAccessLogStore:
    """AccessLogStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(ACCESSES)

    async def record(self, holder_id: HolderId, access: Access) -> None:
        await self._collection.insert(
            {
                "_id": access.access_id,
                "holderId": holder_id,
                "at": access.at,
                "action": access.action,
                "by": access.by,
                "channel": access.channel,
                "reason": access.reason,
            }
        )

    async def entries(self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int) -> list[Access]:
        query: Document = {"holderId": holder_id}
        if after is not None:
            at, access_id = after
            query["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": access_id}}]
        documents = await self._collection.find(query, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [Access(d["_id"], d["at"], d["action"], d["by"], d["channel"], d["reason"]) for d in documents]
