"""What happened to cards, as their histories have it, for the access logs.

True here: nothing but reading, side by side with others, and no sealed field. Never here: the card's own state.
"""

from collections.abc import Awaitable, Mapping

from service.card_accesses import Change
from service.ids import CardId, HolderId
from service.mongo.cards import NAME
from service.mongo.client import Database, Document
from service.mongo.reads import Reads


class MongoChangeStore:
    """ChangeStore."""

    def __init__(self, database: Database) -> None:
        self._reads = Reads(database.collection(NAME), _changes, projection={"holderId": 1, "history": 1})

    def changes(self, card_id: CardId) -> Awaitable[Mapping[str, Change] | None]:
        return self._reads.get(card_id)


def _changes(document: Document) -> Mapping[str, Change]:
    holder_id = HolderId(document["holderId"])
    return {
        entry["id"]: Change(holder_id, entry["by"], entry["channel"], entry["reason"], entry.get("guardian"))
        for entry in document["history"]
    }
