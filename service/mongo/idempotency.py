"""Idempotency keys in the database.

True here: a key is claimed by making its document, or by taking over a lease that ran out, each in one conditional
write; an answer is sealed, because it may hold what only its caller may see.
"""

from datetime import datetime, timedelta
from typing import Final

from service.idempotency import Answer, Claim, Found
from service.mongo.client import Database, Document, Duplicate
from service.mongo.writes import Writes
from service.vault import Vault

NAME: Final = "idempotency"


class MongoIdempotencyStore:
    """IdempotencyStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)
        self._vault = vault

    async def claim(self, mark: bytes, print_: bytes, now: datetime, lease: timedelta, kept: timedelta) -> Claim | Found:
        fresh = {
            "_id": mark,
            "since": now,
            "fingerprint": print_,
            "leaseUntil": now + lease,
            "fence": 1,
            "answer": None,
            "expiresAt": now + kept,
        }
        try:
            await self._writes.insert(fresh)
        except Duplicate:
            return await self._take_over(mark, print_, now, lease, kept)
        return Claim(mark, now, 1)

    async def _take_over(self, mark: bytes, print_: bytes, now: datetime, lease: timedelta, kept: timedelta) -> Claim | Found:
        abandoned = {"fingerprint": print_, "answer": None, "leaseUntil": {"$lte": now}, "expiresAt": {"$gt": now}}
        leased = {"$set": {"leaseUntil": now + lease}, "$inc": {"fence": 1}}
        document = await self._collection.change({"_id": mark} | abandoned, leased)
        if document is None:
            # Forgotten, and only not swept away yet: the key begins anew.
            fresh = {"since": now, "fingerprint": print_, "leaseUntil": now + lease, "answer": None}
            anew = {"$set": fresh | {"expiresAt": now + kept}, "$inc": {"fence": 1}}
            document = await self._collection.change({"_id": mark, "expiresAt": {"$lte": now}}, anew)
        if document is not None:
            return Claim(mark, document["since"], document["fence"])
        found = await self._collection.find_one({"_id": mark})
        if found is None:
            # Released between the two looks: whoever asks again will get it.
            return Found(print_, now, None)
        return Found(bytes(found["fingerprint"]), found["leaseUntil"], self._answer(mark, found["answer"]))

    async def complete(self, claim: Claim, answer: Answer, whose: str | None = None) -> None:
        body = self._vault.seal(NAME, "answer", claim.mark.hex(), answer.body.decode())
        kept: Document = {"answer": {"status": answer.status, "mediaType": answer.media_type, "body": body}}
        if whose is not None:
            kept["holderId"] = whose
        await self._writes.update(_still(claim), {"$set": kept})

    async def release(self, claim: Claim) -> None:
        await self._collection.delete(_still(claim) | {"answer": None})

    def _answer(self, mark: bytes, kept: Document | None) -> Answer | None:
        if kept is None:
            return None
        body = self._vault.open(NAME, "answer", mark.hex(), kept["body"])
        return Answer(kept["status"], kept["mediaType"], body.encode())


def _still(claim: Claim) -> Document:
    """The document, while the claim is good. A key that was freed and used anew counts its fences anew, hence `since`."""
    return {"_id": claim.mark, "since": claim.since, "fence": claim.fence}
