"""Cards in the database: one document a card, holding its state, its figures, its history and its outbox.

True here: every change of a card is one conditional write on id, status and version that also appends what happened. Never
here: a number or a name in plain; they are sealed for this document, and found through blind indexes.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

from service.activations import Owned
from service.balances import Account, Balance, Figure
from service.cards import (
    TRANSITIONS,
    Action,
    Activation,
    Bank,
    BankStatus,
    Card,
    HistoryEntry,
    MedicalStatus,
    Pin,
    PinState,
    Stage,
    Status,
)
from service.ids import ActivationId, CardId, HolderId
from service.locale import Locale
from service.mongo.client import Database, Document
from service.mongo.reads import Reads
from service.mongo.writes import Writes
from service.relay import Happening
from service.vault import Vault

NAME: Final = "cards"
# History and outbox grow; nobody who looks at a card needs them.
_STATE: Final = {"history": 0, "outbox": 0}
# A person's documents lie together on one shard of a cluster, so whose they are is part of every question.
_OWNED: Final = ("_id", "holderId")
# A look-up of figures opens no sealed field, so it fetches none.
_BALANCE: Final = dict.fromkeys(("holderId", "regionCode", "generation", "status", "medical", "accounts"), 1)


class MongoCardStore:
    """CardStore, BalanceStore, ActivationStore and OutboxStore: four views of one collection."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault
        self._cards = Reads(self._collection, self._card, fields=_OWNED, projection=_STATE)
        self._balances = Reads(self._collection, _balance, fields=_OWNED, projection=_BALANCE)
        self._numbered = Reads(self._collection, self._owned, fields=("numberIndex", "regionCode"), projection=_STATE)
        self._writes = Writes(self._collection)

    def card(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Card | None]:
        return self._cards.get(card_id, holder_id)

    def balance(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Balance | None]:
        return self._balances.get(card_id, holder_id)

    async def cards_of(self, holder_id: HolderId, after: CardId | None, limit: int) -> list[Card]:
        query: Document = {"holderId": holder_id} | ({"_id": {"$gt": after}} if after else {})
        documents = await self._collection.find(query, projection=_STATE, sort=[("_id", 1)], limit=limit)
        return [self._card(document) for document in documents]

    async def history(self, card_id: CardId, holder_id: HolderId) -> list[HistoryEntry] | None:
        document = await self._collection.find_one({"_id": card_id, "holderId": holder_id}, {"history": 1})
        if document is None:
            return None
        return [
            HistoryEntry(
                at=entry["at"],
                happening=entry["happening"],
                before=Status(entry["from"]),
                after=Status(entry["to"]),
                channel=entry["channel"],
                reason=entry["reason"],
            )
            for entry in reversed(document["history"])
        ]

    def by_number(self, region_code: str, card_number: str) -> Awaitable[Owned | None]:
        return self._numbered.get(self._vault.index("cardNumber", card_number), region_code)

    async def by_activation(self, activation_id: ActivationId) -> Card | None:
        document = await self._collection.find_one({"activation.id": activation_id}, _STATE)
        return self._card(document) if document else None

    async def activate(self, card: Card, activation: Activation, locale: Locale) -> Card | None:
        row = TRANSITIONS[Action.ACTIVATE]
        happening = {
            "id": f"{card.card_id}:{card.version + 1}",
            "at": activation.at,
            "happening": row.happening,
            "from": card.stored_status,
            "to": row.target,
            "channel": activation.channel,
            "by": activation.by,
            "reason": None,
        }
        found = await self._writes.update(
            {"_id": card.card_id, "holderId": card.holder_id, "status": card.stored_status, "version": card.version},
            {
                "$set": {
                    "status": row.target,
                    "activation": {
                        "id": activation.activation_id,
                        "at": activation.at,
                        "channel": activation.channel,
                        "by": activation.by,
                        "request": activation.request,
                    },
                },
                "$inc": {"version": 1},
                "$push": {
                    "history": happening,
                    "outbox": {
                        "id": happening["id"],
                        "at": activation.at,
                        "happening": row.happening,
                        "tell": activation.by,
                        "locale": locale,
                    },
                },
            },
        )
        if found:
            return replace(card, stored_status=row.target, activation=activation, version=card.version + 1)
        now_is = await self.card(card.card_id, card.holder_id)
        return now_is if now_is is not None and now_is.activation == activation else None

    async def uncarried(self, limit: int) -> list[Happening]:
        documents = await self._collection.find({"outbox.id": {"$exists": True}}, projection={"outbox": 1}, limit=limit)
        return [
            Happening(
                item["id"],
                CardId(document["_id"]),
                item["happening"],
                item["at"],
                HolderId(item["tell"]),
                item["locale"],
            )
            for document in documents
            for item in document["outbox"]
        ]

    async def carried(self, happening: Happening) -> None:
        await self._collection.update({"_id": happening.card_id}, {"$pull": {"outbox": {"id": happening.happening_id}}})

    async def waiting(self) -> bool:
        return await self._collection.find_one({"outbox.id": {"$exists": True}}, {"_id": 1}) is not None

    async def put(self, card: Card, id_number: str, figures: tuple[Figure, ...], history: tuple[HistoryEntry, ...]) -> None:
        """Put a whole card, for a sandbox. What happened before is taken as the holder's own doing."""
        await self._collection.replace(card_document(self._vault, card, id_number, figures, history))

    def _owned(self, document: Document) -> Owned:
        return Owned(self._card(document), self._open(document, "idNumber"))

    def _open(self, document: Document, field: str) -> str:
        return self._vault.open(NAME, field, document["_id"], document[field])

    def _card(self, document: Document) -> Card:
        bank, pin = document["bank"], document["pin"]
        account = bank["account"]
        return Card(
            card_id=CardId(document["_id"]),
            holder_id=HolderId(document["holderId"]),
            region_code=document["regionCode"],
            number=self._open(document, "number"),
            identification_code=self._open(document, "identificationCode"),
            holder_name=self._open(document, "holderName"),
            generation=document["generation"],
            bank=Bank(
                bank["code"],
                self._vault.open(NAME, "bank.account", document["_id"], account) if account else None,
                BankStatus(bank["status"]),
            ),
            stage=Stage(document["stage"]),
            test_batch=document["testBatch"],
            stored_status=Status(document["status"]),
            temporary_loss_until=document["temporaryLossUntil"],
            activation=_activation(document["activation"]),
            stored_medical=MedicalStatus(document["medical"]),
            pin=Pin(PinState(pin["state"]), pin["wrongTries"]),
            expires_on=date.fromisoformat(document["expiresOn"]),
            version=document["version"],
        )


def _balance(document: Document) -> Balance:
    return Balance(
        card_id=CardId(document["_id"]),
        region_code=document["regionCode"],
        generation=document["generation"],
        stored_status=Status(document["status"]),
        stored_medical=MedicalStatus(document["medical"]),
        figures=tuple(
            Figure(Account(item["account"]), item["balanceFen"], item["status"], item["asOf"], item["source"])
            for item in document["accounts"]
        ),
    )


def card_document(
    vault: Vault, card: Card, id_number: str, figures: tuple[Figure, ...], history: tuple[HistoryEntry, ...]
) -> Document:
    """The document of a whole card, sealed. What happened before is taken as the holder's own doing."""
    sealed = vault.sealing(NAME, card.card_id)
    done = card.activation
    return {
        "_id": card.card_id,
        "holderId": card.holder_id,
        "regionCode": card.region_code,
        "number": sealed("number", card.number),
        "numberIndex": vault.index("cardNumber", card.number),
        "identificationCode": sealed("identificationCode", card.identification_code),
        "idNumber": sealed("idNumber", id_number),
        "holderName": sealed("holderName", card.holder_name),
        "generation": card.generation,
        "bank": {
            "code": card.bank.code,
            "account": sealed("bank.account", card.bank.account) if card.bank.account else None,
            "status": card.bank.status,
        },
        "stage": card.stage,
        "testBatch": card.test_batch,
        "status": card.stored_status,
        "temporaryLossUntil": card.temporary_loss_until,
        "activation": None
        if done is None
        else {
            "id": done.activation_id,
            "at": done.at,
            "channel": done.channel,
            "by": done.by,
            "request": done.request,
        },
        "medical": card.stored_medical,
        "pin": {"state": card.pin.state, "wrongTries": card.pin.wrong_tries},
        "accounts": [
            {
                "account": figure.account,
                "balanceFen": figure.balance_fen,
                "status": figure.status,
                "asOf": figure.as_of,
                "source": figure.source,
            }
            for figure in figures
        ],
        "expiresOn": card.expires_on.isoformat(),
        "version": card.version,
        "history": [_past(card, number, entry) for number, entry in enumerate(history, start=1)],
        "outbox": [],
    }


def _past(card: Card, number: int, entry: HistoryEntry) -> Document:
    return {
        "id": f"{card.card_id}:{number}",
        "at": entry.at,
        "happening": entry.happening,
        "from": entry.before,
        "to": entry.after,
        "channel": entry.channel,
        "by": card.holder_id,
        "reason": entry.reason,
    }


def _activation(item: Mapping[str, Any] | None) -> Activation | None:
    if item is None:
        return None
    return Activation(ActivationId(item["id"]), item["at"], item["channel"], HolderId(item["by"]), bytes(item["request"]))
