"""Last known documents in the database, one a person and question.

True here: the document is sealed for its place, for it says what somebody earns and where their money lies; an older one never
takes the place of a newer one; each passes by itself. Never here: a number or an amount in plain.
"""

from contextlib import suppress
from typing import Final

from service.gateways.upstream import Question
from service.ids import HolderId, derived_id
from service.last_known import Kept
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.vault import Vault

NAME: Final = "last_known"


class MongoLastKnownStore:
    """LastKnownStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault
        self._reads = Reads(self._collection, self._kept, fields=("_id", "holderId"))

    async def last_known(self, holder_id: HolderId, question: Question) -> Kept | None:
        return await self._reads.get(_id(holder_id, question), holder_id)

    async def keep(self, kept: Kept) -> None:
        key = _id(kept.holder_id, kept.question)
        document = {
            "question": kept.question,
            "asOf": kept.as_of,
            "keptAt": kept.kept_at,
            "expiresAt": kept.until,
            "document": self._vault.seal(NAME, "document", key, kept.document.decode()),
        }
        older = {"_id": key, "holderId": kept.holder_id, "asOf": {"$lte": kept.as_of}}
        # A newer one is there.
        with suppress(Duplicate):
            await self._collection.update(older, {"$set": document}, upsert=True)

    def _kept(self, document: Document) -> Kept:
        return Kept(
            holder_id=HolderId(document["holderId"]),
            question=document["question"],
            as_of=document["asOf"],
            kept_at=document["keptAt"],
            until=document["expiresAt"],
            document=self._vault.open(NAME, "document", document["_id"], document["document"]).encode(),
        )


def _id(holder_id: HolderId, question: Question) -> str:
    return derived_id("lkn", holder_id, question)
