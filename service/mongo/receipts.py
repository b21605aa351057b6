"""What was done to cards, read off their histories.

True here: nothing but reading; a card's history was written with each change itself (service/mongo/cards.py). Never here: a
sealed field; a receipt says nothing of a person.
"""

from collections.abc import Iterator
from typing import Final

from service.ids import CardId, HolderId
from service.mongo.cards import NAME
from service.mongo.client import Database, Document
from service.receipts import ACTIVATED, EVENTS, Deed, activation_id_of, receipt_id_of

_ASKED: Final = dict.fromkeys(("holderId", "regionCode", "activation", "history"), 1)
# Nobody has more cards than this, nor acts for holders of more.
_MOST_CARDS: Final = 100


class MongoDeedStore:
    """DeedStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def of_card(self, card_id: CardId) -> list[Deed]:
        document = await self._collection.find_one({"_id": card_id}, _ASKED)
        return list(_deeds(document)) if document else []

    async def of_person(self, holder_id: HolderId) -> list[Deed]:
        asked = {"$or": [{"holderId": holder_id}, {"history.guardian": holder_id}]}
        documents = await self._collection.find(asked, projection=_ASKED, limit=_MOST_CARDS)
        return [deed for document in documents for deed in _deeds(document)]


def _deeds(document: Document) -> Iterator[Deed]:
    """Those of one card. An activation that came with an import stands in the card alone."""
    card_id, activation = CardId(document["_id"]), document["activation"]
    written: set[str] = set()
    for entry in document["history"]:
        if entry["happening"] not in EVENTS:
            continue
        proof_id = receipt_id = receipt_id_of(entry["id"])
        if entry["happening"] == ACTIVATED:
            # A happening is named by the card and the version it made, an activation by the version it found.
            proof_id = activation_id_of(card_id, int(entry["id"].rpartition(":")[2]) - 1)
            receipt_id = receipt_id_of(proof_id)
            written.add(proof_id)
        yield _deed(document, entry, entry["happening"], receipt_id, proof_id)
    if activation is not None and activation["id"] not in written:
        yield _deed(document, activation, ACTIVATED, receipt_id_of(activation["id"]), activation["id"])


def _deed(document: Document, entry: Document, happening: str, receipt_id: str, proof_id: str) -> Deed:
    return Deed(
        receipt_id=receipt_id,
        proof_id=proof_id,
        happening=happening,
        card_id=CardId(document["_id"]),
        region_code=document["regionCode"],
        channel=entry["channel"],
        at=entry["at"],
        holder_id=HolderId(document["holderId"]),
        guardian=entry.get("guardian"),
    )
