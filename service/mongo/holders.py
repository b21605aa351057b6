"""People in the database.

True here: a person is found by the blind index of the ID number only; names are in no index; the number of a household
register is asked about beside the ID number, never by itself.
"""

import secrets
from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime
from typing import Final

from service.holders import Access, Holder
from service.ids import HolderId
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.mongo.writes import Writes
from service.vault import Vault

NAME: Final = "holders"
ACCESSES: Final = "accesses"
NONCE_BYTES: Final = 16


class MongoHolderStore:
    """HolderStore and NewcomerStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)
        self._vault = vault
        self._reads = Reads(self._collection, self._holder)

    def holder(self, holder_id: HolderId) -> Awaitable[Holder | None]:
        return self._reads.get(holder_id)

    async def holder_by_number(self, id_number: str) -> Holder | None:
        document = await self._collection.find_one({"idNumberIndex": self._vault.index("idNumber", id_number)})
        return self._holder(document) if document else None

    async def in_household(self, id_number: str, household_register: str) -> Holder | None:
        query = {
            "idNumberIndex": self._vault.index("idNumber", id_number),
            "householdIndex": self._vault.index("householdRegister", household_register),
        }
        document = await self._collection.find_one(query)
        return self._holder(document) if document else None

    async def add(self, holder: Holder) -> bool:
        try:
            await self._collection.insert(holder_document(self._vault, holder))
        except Duplicate:
            return False
        return True

    async def put(self, holder: Holder) -> None:
        """Put a person, for a sandbox."""
        await self._writes.replace(holder_document(self._vault, holder))

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
            opened("householdRegister") if "householdRegister" in document else None,
        )


def holder_document(vault: Vault, holder: Holder) -> Document:
    """The document of a person, sealed."""
    sealed = vault.sealing(NAME, holder.holder_id)
    register = holder.household_register
    household = (
        {
            "householdRegister": sealed("householdRegister", register),
            "householdIndex": vault.index("householdRegister", register),
        }
        if register is not None
        else {}
    )
    return {
        "_id": holder.holder_id,
        "name": sealed("name", holder.name),
        "idNumber": sealed("idNumber", holder.id_number),
        "idNumberIndex": vault.index("idNumber", holder.id_number),
        "mobile": sealed("mobile", holder.mobile),
        "regionCode": holder.region_code,
        "queryPassword": holder.query_password,
        **household,
    }


class MongoAccessLogStore:
    """AccessLogStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(ACCESSES)
        self._writes = Writes(self._collection)

    async def record(self, holder_id: HolderId, access: Access) -> None:
        document: Document = {
            "_id": access.access_id,
            "holderId": holder_id,
            "at": access.at,
            "action": access.action,
            "by": access.by,
            "channel": access.channel,
            "reason": access.reason,
            # The ledger commits to what is said here by a digest; without this, words could be tried out against it.
            "nonce": secrets.token_bytes(NONCE_BYTES),
        }
        if access.operator_id is not None:
            document["operatorId"] = access.operator_id
        if access.ticket is not None:
            document["ticket"] = access.ticket
        # One that is there already was written by another request for the same thing, or by this one before it was cut off.
        with suppress(Duplicate):
            await self._writes.insert(document)

    async def entries(self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int) -> list[Access]:
        query: Document = {"holderId": holder_id}
        if after is not None:
            at, access_id = after
            query["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": access_id}}]
        documents = await self._collection.find(query, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [access_of(document) for document in documents]


def access_of(document: Document) -> Access:
    """The entry of a document."""
    return Access(
        access_id=document["_id"],
        at=document["at"],
        action=document["action"],
        by=document["by"],
        channel=document["channel"],
        reason=document["reason"],
        operator_id=document.get("operatorId"),
        ticket=document.get("ticket"),
    )
