"""Figures in the documents of cards, where one read shows card and balance as they were at one moment.

True here: a write sets `accounts` and nothing else, on the condition that they are still as they were read, so it neither
waits for a change of the card nor stands in its way, and of two that bring figures the newer stay. Never here: `version`.
"""

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.balances import Figure
from service.cards import MOST_CARDS
from service.ids import HolderId
from service.mongo import cards
from service.mongo.client import Database, Document

# Somebody else brought some between our read and our write: at most one a process, and of each only what is newer.
_ROUNDS: Final = 8


class MongoFigureStore:
    """FigureStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(cards.NAME)

    async def bring(self, holder_id: HolderId, figures: Sequence[Figure]) -> None:
        for _ in range(_ROUNDS):
            documents = await self._collection.find({"holderId": holder_id}, projection={"accounts": 1}, limit=MOST_CARDS)
            changes = [(document, _newest(document["accounts"], figures)) for document in documents]
            missed = await gather(
                *(self._missed(holder_id, document, accounts) for document, accounts in changes if accounts is not None)
            )
            if not any(missed):
                return

    async def _missed(self, holder_id: HolderId, document: Document, accounts: list[Document]) -> bool:
        as_read = {"_id": document["_id"], "holderId": holder_id, "accounts": document["accounts"]}
        return not await self._collection.update(as_read, {"$set": {"accounts": accounts}})


def _newest(accounts: Sequence[Mapping[str, Any]], figures: Sequence[Figure]) -> list[Document] | None:
    """The accounts with the figures that are newer, each in its place; None when none is."""
    brought = {figure.account: figure for figure in figures}
    changed = False
    newest: list[Document] = []
    for account in accounts:
        figure = brought.pop(account["account"], None)
        newer = figure is not None and figure.as_of > account["asOf"]
        newest.append(cards.account_document(figure) if figure is not None and newer else {**account})
        changed = changed or newer
    newest += [cards.account_document(figure) for figure in brought.values()]
    return newest if changed or brought else None
