"""Cards in the database: one document a card, holding its state, its figures, its history and its outbox.

True here: every change of a card is one conditional write on id, status and version that also appends what happened. Never
here: a number or a name in plain; they are sealed for this document, and found through blind indexes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from service.activations import Owned
from service.balances import Account, Balance, Figure, WriteFigures, unwritten
from service.cards import (
    Activation,
    Bank,
    BankStatus,
    Card,
    Happened,
    HistoryEntry,
    MedicalStatus,
    Pin,
    PinState,
    Stage,
    Status,
)
from service.deliveries import MOST_COUNTED
from service.ids import ActivationId, CardId, HolderId
from service.mongo.client import Database, Document, Duplicate, in_utc
from service.mongo.reads import Reads
from service.mongo.writes import Writes
from service.relay import Happening, Waiting
from service.vault import Vault

NAME: Final = "cards"
# History and outbox grow; nobody who looks at a card needs them.
_STATE: Final = {"history": 0, "outbox": 0}
# A person's documents lie together on one shard of a cluster, so whose they are is part of every question.
_OWNED: Final = ("_id", "holderId")
# A look-up of figures opens no sealed field, so it fetches none.
_BALANCE: Final = dict.fromkeys(("holderId", "regionCode", "generation", "status", "medical", "accounts"), 1)

# Half of all requests read these words; finding them costs a third of what calling the enumeration does.
_STATUSES: Final = {str(word): word for word in Status}
_MEDICAL: Final = {str(word): word for word in MedicalStatus}
_ACCOUNTS: Final = {str(word): word for word in Account}


class MongoCardStore:
    """CardStore, BalanceStore, ActivationStore, ProductionCards and OutboxStore: five views of one collection.

    `write`: writes figures for clients. It is called here because many balances are read at once: what one after the other
    does the same takes half of the time that it takes later, between other things (docs/decisions/0029).
    """

    def __init__(self, database: Database, vault: Vault, write: WriteFigures = unwritten) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault
        self._write = write
        self._cards = Reads(self._collection, self._card, fields=_OWNED, projection=_STATE)
        self._balances = Reads(database.collection(NAME, zoned=False), self._balance, fields=_OWNED, projection=_BALANCE)
        self._any = Reads(self._collection, self._card, projection=_STATE)
        self._numbered = Reads(self._collection, self._owned, fields=("numberIndex", "regionCode"), projection=_STATE)
        self._writes = Writes(self._collection)

    def card(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Card | None]:
        return self._cards.get(card_id, holder_id)

    def card_by_id(self, card_id: CardId) -> Awaitable[Card | None]:
        return self._any.get(card_id)

    def balance(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Balance | None]:
        return self._balances.get(card_id, holder_id)

    def _balance(self, document: Document) -> Balance:
        card_id, region_code, medical = CardId(document["_id"]), document["regionCode"], _MEDICAL[document["medical"]]
        figures = tuple(
            [
                Figure(_ACCOUNTS[item["account"]], item["balanceFen"], item["status"], in_utc(item["asOf"]), item["source"])
                for item in document["accounts"]
            ]
        )
        oldest = min([figure.as_of for figure in figures], default=None)
        return Balance(
            card_id,
            region_code,
            document["generation"],
            _STATUSES[document["status"]],
            medical,
            figures,
            oldest,
            b"" if oldest is None else self._write(card_id, region_code, figures, oldest, medical),
        )

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

    async def change(self, before: Card, after: Card, happened: Happened) -> Card | None:
        changed = replace(after, version=before.version + 1)
        happening_id = f"{before.card_id}:{changed.version}"
        found = await self._writes.update(
            {"_id": before.card_id, "holderId": before.holder_id, "status": before.stored_status, "version": before.version},
            {
                "$set": self._differences(before, after) | {"version": changed.version},
                "$push": {
                    "history": _entry(happening_id, before, after, happened),
                    "outbox": {
                        "id": happening_id,
                        "at": happened.at,
                        "happening": happened.name,
                        "tell": happened.tell,
                        "locale": happened.locale,
                    },
                },
            },
        )
        return changed if found or await self._was_ours(changed, happening_id, happened) else None

    async def _was_ours(self, changed: Card, happening_id: str, happened: Happened) -> bool:
        """Whether the card had our change, when of several that were written together one found no card."""
        mark = {"id": happening_id, "at": happened.at, "by": happened.by, "request": happened.request}
        query = {"_id": changed.card_id, "holderId": changed.holder_id, "history": {"$elemMatch": mark}}
        document = await self._collection.find_one(query, _STATE)
        # Another change by the same request at the same moment could look the same in the history, but not in the card.
        return document is not None and (document["version"] > changed.version or self._card(document) == changed)

    def _differences(self, before: Card, after: Card) -> Document:
        """The fields that a change sets."""
        changes: Document = {}
        if after.stored_status is not before.stored_status:
            changes["status"] = after.stored_status
        if after.temporary_loss_until != before.temporary_loss_until:
            changes["temporaryLossUntil"] = after.temporary_loss_until
        if after.activation != before.activation:
            changes["activation"] = _activation_document(after.activation)
        if after.bank != before.bank:
            changes["bank"] = _bank_document(after, self._vault.sealing(NAME, after.card_id))
        if after.pin != before.pin:
            changes["pin"] = _pin_document(after.pin)
        if after.stored_medical is not before.stored_medical:
            changes["medical"] = after.stored_medical
        if after.stage is not before.stage:
            changes["stage"] = after.stage
        if after.test_batch is not before.test_batch:
            changes["testBatch"] = after.test_batch
        if after.lock_reason != before.lock_reason:
            changes["lockReason"] = after.lock_reason
        return changes

    async def did(self, card: Card, request: bytes) -> bool:
        query = {"_id": card.card_id, "holderId": card.holder_id, "history.request": request}
        return await self._collection.find_one(query, {"_id": 1}) is not None

    async def count_pin_try(self, card: Card, max_tries: int) -> Card | None:
        as_read = {"_id": card.card_id, "holderId": card.holder_id, "status": card.stored_status, "version": card.version}
        guessable = {"pin.state": {"$ne": PinState.LOCKED}, "pin.wrongTries": {"$lt": max_tries}}
        counted = await self._collection.change(as_read | guessable, {"$inc": {"pin.wrongTries": 1}}, projection=_STATE)
        return self._card(counted) if counted else None

    async def give_back_pin_tries(self, card: Card) -> None:
        tries = card.pin.wrong_tries
        same = {"pin.state": card.pin.state, "pin.hash": card.pin.hash, "pin.wrongTries": {"$gte": tries}}
        whose = {"_id": card.card_id, "holderId": card.holder_id}
        await self._collection.update(whose | same, {"$inc": {"pin.wrongTries": -tries}})

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

    async def carried(self, happenings: Sequence[Happening]) -> None:
        # One write for all of them: what a happening is called names its card too.
        cards = {happening.card_id for happening in happenings}
        names = [happening.happening_id for happening in happenings]
        await self._collection.update_all({"_id": {"$in": list(cards)}}, {"$pull": {"outbox": {"id": {"$in": names}}}})

    async def waiting(self) -> bool:
        return await self._collection.find_one({"outbox.id": {"$exists": True}}, {"_id": 1}) is not None

    async def backlog(self) -> Waiting:
        # Counted there: only the sum travels.
        found = await self._collection.aggregate(
            [
                {"$match": {"outbox.id": {"$exists": True}}},
                {"$limit": MOST_COUNTED},
                {"$unwind": "$outbox"},
                {"$group": {"_id": None, "number": {"$sum": 1}, "oldest": {"$min": "$outbox.at"}}},
            ]
        )
        return Waiting(found[0]["number"], found[0]["oldest"]) if found else Waiting(0, None)

    async def add(self, card: Card, id_number: str, figures: tuple[Figure, ...]) -> bool:
        try:
            await self._collection.insert(card_document(self._vault, card, id_number, figures, ()))
        except Duplicate:
            return False
        return True

    async def put(self, card: Card, id_number: str, figures: tuple[Figure, ...], history: tuple[HistoryEntry, ...]) -> None:
        """Put a whole card, for a sandbox. What happened before is taken as the holder's own doing."""
        await self._writes.replace(card_document(self._vault, card, id_number, figures, history))

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
            # Documents of earlier versions have no hash and no reason of a lock.
            pin=Pin(PinState(pin["state"]), pin["wrongTries"], pin.get("hash")),
            expires_on=date.fromisoformat(document["expiresOn"]),
            version=document["version"],
            lock_reason=document.get("lockReason"),
        )


def card_document(
    vault: Vault, card: Card, id_number: str, figures: tuple[Figure, ...], history: tuple[HistoryEntry, ...]
) -> Document:
    """The document of a whole card, sealed. What happened before is taken as the holder's own doing."""
    sealed = vault.sealing(NAME, card.card_id)
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
        "bank": _bank_document(card, sealed),
        "stage": card.stage,
        "testBatch": card.test_batch,
        "status": card.stored_status,
        "temporaryLossUntil": card.temporary_loss_until,
        "activation": _activation_document(card.activation),
        "medical": card.stored_medical,
        "pin": _pin_document(card.pin),
        "lockReason": card.lock_reason,
        "accounts": [account_document(figure) for figure in figures],
        "expiresOn": card.expires_on.isoformat(),
        "version": card.version,
        "history": [_past(card, number, entry) for number, entry in enumerate(history, start=1)],
        "outbox": [],
    }


def account_document(figure: Figure) -> Document:
    """One of the figures in a card's document."""
    return {
        "account": figure.account,
        "balanceFen": figure.balance_fen,
        "status": figure.status,
        "asOf": figure.as_of,
        "source": figure.source,
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
        "request": None,
    }


def _entry(happening_id: str, before: Card, after: Card, happened: Happened) -> Document:
    """What goes into the history: from what the card really was at that moment to what it is then."""
    entry: Document = {
        "id": happening_id,
        "at": happened.at,
        "happening": happened.name,
        "from": before.status(happened.at),
        "to": after.stored_status,
        "channel": happened.channel,
        "by": happened.by,
        "reason": happened.reason,
        "request": happened.request,
    }
    if happened.guardian is not None:
        entry["guardian"] = happened.guardian
    if happened.approved_by is not None:
        entry["approvedBy"] = happened.approved_by
    return entry


def _bank_document(card: Card, sealed: Callable[[str, str], bytes]) -> Document:
    account = card.bank.account
    return {
        "code": card.bank.code,
        "account": sealed("bank.account", account) if account else None,
        "status": card.bank.status,
    }


def _pin_document(pin: Pin) -> Document:
    return {"state": pin.state, "wrongTries": pin.wrong_tries, "hash": pin.hash}


def _activation_document(done: Activation | None) -> Document | None:
    if done is None:
        return None
    document: Document = {
        "id": done.activation_id,
        "at": done.at,
        "channel": done.channel,
        "by": done.by,
        "request": done.request,
    }
    if done.guardian is not None:
        document["guardian"] = done.guardian
    return document


def _activation(item: Mapping[str, Any] | None) -> Activation | None:
    if item is None:
        return None
    return Activation(
        ActivationId(item["id"]), item["at"], item["channel"], item["by"], bytes(item["request"]), item.get("guardian")
    )
