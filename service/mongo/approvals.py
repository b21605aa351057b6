"""Approvals in the database: one document each, with its outbox.

True here: the decision and the word that it is still to be carried out are one write, conditional on the version; of several
that are pending for the same card and action a unique index keeps all but one out. Never here: an operator's name or what
they wrote in plain.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from service.approvals import Approval, Decided, Kind, Party, State
from service.ids import ApprovalId, CardId, HolderId, InstitutionId, OperatorId
from service.locale import Bilingual
from service.mongo.client import Database, Document, Duplicate
from service.vault import Vault

NAME: Final = "approvals"


class MongoApprovalStore:
    """ApprovalStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault

    async def approval(self, approval_id: ApprovalId) -> Approval | None:
        document = await self._collection.find_one({"_id": approval_id})
        return self._approval(document) if document else None

    async def pending_for(self, card_id: CardId, kind: Kind) -> Approval | None:
        document = await self._collection.find_one({"cardId": card_id, "kind": kind, "state": "pending"})
        return self._approval(document) if document else None

    async def add(self, approval: Approval) -> bool:
        try:
            await self._collection.insert(self._document(approval))
        except Duplicate:
            return False
        return True

    async def expire(self, approval: Approval) -> None:
        await self._collection.update(_as_read(approval), {"$set": {"state": "expired"}, "$inc": {"version": 1}})

    async def decide(self, before: Approval, after: Approval) -> Approval | None:
        document = self._document(after)
        decided: Document = {name: document[name] for name in ("state", "decided", "version")}
        update: Document = {"$set": decided}
        if after.stored_state == "approved":
            update["$push"] = {"outbox": {"id": f"{after.approval_id}:{after.version}"}}
        return after if await self._collection.update(_as_read(before), update) else None

    async def settle(self, before: Approval, after: Approval) -> bool:
        document = self._document(after)
        ended: Document = {name: document[name] for name in ("state", "carriedOutAt", "failure", "version")}
        return await self._collection.update(_as_read(before), {"$set": ended | {"outbox": []}})

    async def of_regions(
        self, region_codes: Collection[str], state: State | None, after: tuple[datetime, str] | None, limit: int, now: datetime
    ) -> list[Approval]:
        wanted: list[Document] = [{"regionCode": {"$in": list(region_codes)}}]
        if state is not None:
            wanted.append(_in_state(state, now))
        if after is not None:
            at, approval_id = after
            wanted.append({"$or": [{"askedAt": {"$lt": at}}, {"askedAt": at, "_id": {"$lt": approval_id}}]})
        documents = await self._collection.find({"$and": wanted}, sort=[("askedAt", -1), ("_id", -1)], limit=limit)
        return [self._approval(document) for document in documents]

    async def to_carry_out(self, limit: int) -> list[Approval]:
        documents = await self._collection.find({"outbox.id": {"$exists": True}}, limit=limit)
        return [self._approval(document) for document in documents]

    def _document(self, approval: Approval) -> Document:
        decided = approval.decided
        return {
            "_id": approval.approval_id,
            "kind": approval.kind,
            "cardId": approval.card_id,
            "holderId": approval.holder_id,
            "regionCode": approval.region_code,
            "state": approval.stored_state,
            "reason": self._sealed(approval, "reason", approval.reason),
            "locale": approval.locale,
            "askedAt": approval.asked_at,
            "askedBy": self._party_document(approval, "askedBy", approval.asked_by),
            "expiresAt": approval.expires_at,
            "version": approval.version,
            "decided": {
                "by": self._party_document(approval, "decidedBy", decided.by),
                "at": decided.at,
                "note": self._sealed(approval, "note", decided.note),
                "request": decided.request,
            }
            if decided
            else None,
            "carriedOutAt": approval.carried_out_at,
            "failure": approval.failure,
            "outbox": [],
        }

    def _sealed(self, approval: Approval, field: str, text: str | None) -> bytes | None:
        return None if text is None else self._vault.seal(NAME, field, approval.approval_id, text)

    def _opened(self, document: Document, field: str, sealed: bytes | None) -> str | None:
        return None if sealed is None else self._vault.open(NAME, field, document["_id"], sealed)

    def _party_document(self, approval: Approval, field: str, party: Party) -> Document:
        return {
            "operatorId": party.operator_id,
            "role": party.role,
            "name": self._vault.seal(NAME, f"{field}.name", approval.approval_id, party.name),
            "institutionId": party.institution_id,
            "institutionNames": {"zh": party.institution_names.zh, "en": party.institution_names.en},
            "regionCodes": list(party.region_codes),
        }

    def _party(self, document: Document, field: str, item: Document) -> Party:
        return Party(
            operator_id=OperatorId(item["operatorId"]),
            role=item["role"],
            name=self._vault.open(NAME, f"{field}.name", document["_id"], item["name"]),
            institution_id=InstitutionId(item["institutionId"]),
            institution_names=Bilingual(item["institutionNames"]["zh"], item["institutionNames"]["en"]),
            region_codes=tuple(item["regionCodes"]),
        )

    def _approval(self, document: Document) -> Approval:
        decided = document["decided"]
        return Approval(
            approval_id=ApprovalId(document["_id"]),
            kind=document["kind"],
            card_id=CardId(document["cardId"]),
            holder_id=HolderId(document["holderId"]),
            region_code=document["regionCode"],
            stored_state=document["state"],
            reason=self._opened(document, "reason", document["reason"]),
            locale=document["locale"],
            asked_at=document["askedAt"],
            asked_by=self._party(document, "askedBy", document["askedBy"]),
            expires_at=document["expiresAt"],
            version=document["version"],
            decided=Decided(
                by=self._party(document, "decidedBy", decided["by"]),
                at=decided["at"],
                note=self._opened(document, "note", decided["note"]),
                request=bytes(decided["request"]),
            )
            if decided
            else None,
            carried_out_at=document["carriedOutAt"],
            failure=document["failure"],
        )


def _as_read(approval: Approval) -> dict[str, Any]:
    return {"_id": approval.approval_id, "state": approval.stored_state, "version": approval.version}


def _in_state(state: State, now: datetime) -> Document:
    """Those in a state at a moment: what ran out is written down only when somebody asks for the same again."""
    if state == "pending":
        return {"state": "pending", "expiresAt": {"$gt": now}}
    if state == "expired":
        return {"$or": [{"state": "expired"}, {"state": "pending", "expiresAt": {"$lte": now}}]}
    return {"state": state}
