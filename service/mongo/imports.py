"""Cards and people in bulk, and how far an import is.

True here: what is there is never changed, a bulk insert only adds; a document is sealed and encoded once, where it is made,
and travels as bytes. How far an import is lies in the database itself, so that progress and data are never of two
different days. Never here: a value of the file in the documents about an import; the file is known by a keyed mark.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument

from service.errors import Refusal
from service.ids import CardId, HolderId
from service.import_files import Place
from service.import_runs import Claimed, Counts, PreparedRow, Progress
from service.imports import Entry
from service.mongo import cards, holders
from service.mongo.client import Database, Document, Duplicate
from service.vault import Vault

NAME: Final = "imports"


def prepared(vault: Vault, line: int, entry: Entry) -> PreparedRow:
    """A row sealed and encoded."""
    person, card = (
        holders.holder_document(vault, entry.holder),
        cards.card_document(vault, entry.card, entry.holder.id_number, entry.figures, entry.history),
    )
    return PreparedRow(
        line,
        person["idNumberIndex"],
        entry.holder.holder_id,
        bson.encode(person),
        entry.card.card_id,
        bson.encode(card),
    )


class MongoRunStore:
    """RunStore."""

    def __init__(self, database: Database) -> None:
        self._cards = database.collection(cards.NAME)
        self._holders = database.collection(holders.NAME)
        self._runs = database.collection(NAME)

    async def claim(self, run: str, owner: str, lease_seconds: float) -> Claimed | None:
        now = datetime.now(UTC)
        mine = {"$set": _lease(owner, now, lease_seconds), "$setOnInsert": {"startedAt": now}}
        try:
            document = await self._runs.change({"_id": run, "until": {"$lte": now}}, mine, upsert=True)
        except Duplicate:
            return None
        return Claimed(_progress(document) if document is not None and "offset" in document else None)

    async def save(self, run: str, owner: str, progress: Progress, lease_seconds: float) -> bool:
        now = datetime.now(UTC)
        state = {
            "offset": progress.place.offset,
            "line": progress.place.line,
            "digest": progress.place.digest,
            "rejectedBytes": progress.rejected_bytes,
            "done": progress.done,
            "peopleAdded": progress.counts.people_added,
            "cardsAdded": progress.counts.cards_added,
            "cardsKnown": progress.counts.cards_known,
            "rejected": progress.counts.rejected,
            "savedAt": now,
        }
        return await self._runs.update({"_id": run, "owner": owner}, {"$set": state | _lease(owner, now, lease_seconds)})

    async def keep(self, run: str, owner: str, lease_seconds: float) -> bool:
        return await self._runs.update({"_id": run, "owner": owner}, {"$set": _lease(owner, datetime.now(UTC), lease_seconds)})

    async def release(self, run: str, owner: str) -> None:
        await self._runs.update({"_id": run, "owner": owner}, {"$set": {"owner": None, "until": datetime.now(UTC)}})

    async def add_people(self, rows: Sequence[PreparedRow]) -> Mapping[bytes, HolderId]:
        there = await self._holders.insert_all([RawBSONDocument(row.holder) for row in rows])
        if not there:
            return {}
        wanted = [rows[place].person for place in there]
        found = await self._holders.find({"idNumberIndex": {"$in": wanted}}, projection={"idNumberIndex": 1}, limit=len(wanted))
        return _all_of(wanted, {bytes(item["idNumberIndex"]): HolderId(item["_id"]) for item in found})

    async def add_cards(self, rows: Sequence[PreparedRow]) -> Mapping[CardId, HolderId]:
        there = await self._cards.insert_all([RawBSONDocument(row.card) for row in rows])
        if not there:
            return {}
        wanted = [rows[place].card_id for place in there]
        found = await self._cards.find({"_id": {"$in": wanted}}, projection={"holderId": 1}, limit=len(wanted))
        owners = {CardId(item["_id"]): HolderId(item["holderId"]) for item in found}
        strangers = [rows[place] for place in there if rows[place].card_id not in owners]
        return _all_of(wanted, owners | await self._under_other_ids(strangers))

    async def _under_other_ids(self, rows: Sequence[PreparedRow]) -> dict[CardId, HolderId]:
        """Cards that did not come by an import have ids of another making, and are known by number and region."""
        if not rows:
            return {}
        names = {_number(RawBSONDocument(row.card)): row.card_id for row in rows}
        either = [{"numberIndex": index, "regionCode": region} for index, region in names]
        fields = {"numberIndex": 1, "regionCode": 1, "holderId": 1}
        found = await self._cards.find({"$or": either}, projection=fields, limit=len(either))
        return {names[_number(item)]: HolderId(item["holderId"]) for item in found}

    def of_holder(self, row: PreparedRow, holder_id: HolderId) -> PreparedRow:
        card: Document = bson.decode(row.card)
        card["holderId"] = holder_id
        if card["activation"] is not None:
            card["activation"]["by"] = holder_id
        for entry in card["history"]:
            entry["by"] = holder_id
        return row._replace(holder_id=holder_id, card=bson.encode(card))


def _number(card: Mapping[str, Any]) -> tuple[bytes, str]:
    return bytes(card["numberIndex"]), card["regionCode"]


def _all_of(wanted: Iterable[Any], found: dict[Any, HolderId]) -> dict[Any, HolderId]:
    """What was found, if it is everything: a document that is in the way and not to be seen is not yet with a majority."""
    if any(name not in found for name in wanted):
        raise Refusal("outcome_unknown", retry_after=1)
    return found


def _lease(owner: str, now: datetime, seconds: float) -> Document:
    return {"owner": owner, "until": now + timedelta(seconds=seconds)}


def _progress(document: Document) -> Progress:
    return Progress(
        Place(document["offset"], document["line"], document["digest"]),
        Counts(document["peopleAdded"], document["cardsAdded"], document["cardsKnown"], document["rejected"]),
        document["rejectedBytes"],
        document["done"],
    )
