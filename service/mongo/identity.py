"""Verifications in the database.

True here: a try is counted, a code replaced and a verification used up by one conditional write each, so that a burst
of guesses is no more guesses. Never here: a code or a mobile in plain.
"""

from datetime import datetime
from typing import Final

from service.identity import Verification
from service.ids import HolderId, VerificationId
from service.mongo.client import Database, Document
from service.vault import Vault

NAME: Final = "verifications"


class MongoVerificationStore:
    """VerificationStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault

    async def add(self, verification: Verification) -> None:
        mobile = verification.mobile
        await self._collection.insert(
            {
                "_id": verification.verification_id,
                "method": verification.method,
                "holderId": verification.holder_id,
                "mobile": self._vault.seal(NAME, "mobile", verification.verification_id, mobile) if mobile else None,
                "code": verification.code,
                "certificate": verification.certificate,
                "locale": verification.locale,
                "tries": verification.tries,
                "createdAt": verification.created_at,
                "resendAt": verification.resend_at,
                "expiresAt": verification.expires_at,
                "usedAt": None,
            }
        )

    async def verification(self, verification_id: VerificationId) -> Verification | None:
        document = await self._collection.find_one({"_id": verification_id})
        return self._verification(document) if document else None

    async def count_try(self, verification_id: VerificationId, most: int, now: datetime) -> Verification | None:
        document = await self._collection.change(
            {"_id": verification_id, "usedAt": None, "tries": {"$lt": most}, "expiresAt": {"$gt": now}},
            {"$inc": {"tries": 1}},
        )
        return self._verification(document) if document else None

    async def renew(
        self, verification_id: VerificationId, code: bytes, now: datetime, resend_at: datetime, expires_at: datetime
    ) -> bool:
        return await self._collection.update(
            {"_id": verification_id, "usedAt": None, "expiresAt": {"$gt": now}, "resendAt": {"$lte": now}},
            {"$set": {"code": code, "resendAt": resend_at, "expiresAt": expires_at}},
        )

    async def use(self, verification_id: VerificationId, now: datetime) -> bool:
        return await self._collection.update({"_id": verification_id, "usedAt": None}, {"$set": {"usedAt": now}})

    def _verification(self, document: Document) -> Verification:
        mobile, holder_id = document["mobile"], document["holderId"]
        return Verification(
            verification_id=VerificationId(document["_id"]),
            method=document["method"],
            holder_id=HolderId(holder_id) if holder_id else None,
            mobile=self._vault.open(NAME, "mobile", document["_id"], mobile) if mobile else None,
            code=document["code"],
            certificate=document["certificate"],
            locale=document["locale"],
            tries=document["tries"],
            created_at=document["createdAt"],
            resend_at=document["resendAt"],
            expires_at=document["expiresAt"],
            used_at=document["usedAt"],
        )
