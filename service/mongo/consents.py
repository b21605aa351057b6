"""Consents in the database: one document a holder and purpose, with everything that was ever said about it.

True here: a turn is one conditional write on the number of turns before it, so of many at once one is written; turns are only
added. What its holder is still to be told lies in the document until they are. Never here: a text; its version names it.
"""

from collections.abc import Awaitable
from typing import Final

from service.consents import Consent, ConsentNews, Purpose, Turn
from service.ids import ConsentId, HolderId
from service.locale import Locale
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.mongo.writes import Writes

NAME: Final = "consents"
# A person's documents lie together on one shard of a cluster, so whose they are is part of every question.
_OWNED: Final = ("_id", "holderId")
_STATE: Final = {"news": 0}


class MongoConsentStore:
    """ConsentStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)
        self._reads = Reads(self._collection, _consent, fields=_OWNED, projection=_STATE)
        self._writes = Writes(self._collection)

    def consent(self, consent_id: ConsentId, holder_id: HolderId) -> Awaitable[Consent | None]:
        return self._reads.get(consent_id, holder_id)

    async def consents_of(self, holder_id: HolderId) -> list[Consent]:
        documents = await self._collection.find(
            {"holderId": holder_id}, projection=_STATE, sort=[("_id", 1)], limit=len(Purpose)
        )
        return [_consent(document) for document in documents]

    async def turn(self, before: Consent, turn: Turn, locale: Locale) -> bool:
        news = {
            "id": f"{before.consent_id}:{len(before.turns) + 1}",
            "turn": turn.turn,
            "wording": turn.wording,
            "locale": locale,
        }
        if before.turns:
            as_read = {"_id": before.consent_id, "holderId": before.holder_id, "turns": {"$size": len(before.turns)}}
            return await self._collection.update(as_read, {"$push": {"turns": _turn_document(turn), "news": news}})
        try:
            await self._collection.insert(_document(before, (turn,)) | {"news": [news]})
        except Duplicate:
            return False
        return True

    async def news(self, limit: int) -> list[ConsentNews]:
        documents = await self._collection.find({"news.id": {"$exists": True}}, limit=limit)
        return [_news(document, item) for document in documents for item in document["news"]]

    async def carried(self, news: ConsentNews) -> None:
        whose = {"_id": news.consent_id, "holderId": news.holder_id}
        await self._collection.update(whose, {"$pull": {"news": {"id": news.news_id}}})

    async def put(self, consent: Consent) -> None:
        """Put a consent, for a sandbox."""
        await self._writes.replace(_document(consent, consent.turns))


def _document(consent: Consent, turns: tuple[Turn, ...]) -> Document:
    return {
        "_id": consent.consent_id,
        "holderId": consent.holder_id,
        "purpose": consent.purpose,
        "turns": [_turn_document(turn) for turn in turns],
    }


def _turn_document(turn: Turn) -> Document:
    return {"turn": turn.turn, "at": turn.at, "channel": turn.channel, "wording": turn.wording, "request": turn.request}


def _consent(document: Document) -> Consent:
    return Consent(
        consent_id=ConsentId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        purpose=Purpose(document["purpose"]),
        turns=tuple(
            Turn(item["turn"], item["at"], item["channel"], item["wording"], bytes(item["request"]))
            for item in document["turns"]
        ),
    )


def _news(document: Document, item: Document) -> ConsentNews:
    return ConsentNews(
        news_id=item["id"],
        consent_id=ConsentId(document["_id"]),
        holder_id=HolderId(document["holderId"]),
        purpose=Purpose(document["purpose"]),
        turn=item["turn"],
        wording=item["wording"],
        locale=item["locale"],
    )
