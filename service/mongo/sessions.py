"""Sessions in the database.

True here: a session is read anew on every request, side by side with others; it moves to its next generation in one
conditional write. A resident's names its holder, an operator's its operator, and one without a role is a resident's. What its
holder is to hear of it lies in it until they were told. Never here: a token or anything that could make one.
"""

from collections.abc import Awaitable
from datetime import datetime
from typing import Final

from service.announcements import Topic
from service.ids import HolderId, OperatorId, SessionId
from service.locale import DEFAULT_LOCALE, Locale
from service.mongo.client import Database, Document, in_utc
from service.mongo.reads import Reads
from service.sessions import Assurance, News, Session
from service.sign_ins import SessionNews

NAME: Final = "sessions"


class MongoSessionStore:
    """SessionStore and SessionNewsStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME, zoned=False)
        self._reads = Reads(self._collection, _session)

    def session(self, session_id: SessionId) -> Awaitable[Session | None]:
        return self._reads.get(session_id)

    async def add(self, session: Session, locale: Locale, news: News | None) -> None:
        told: Document = {} if news is None else {"news": [{"topic": news.topic, "device": news.device}]}
        await self._collection.insert(
            told
            | {
                "_id": session.session_id,
                _owner(session): session.subject,
                "role": session.role,
                "locale": locale,
                "level": session.assurance.level,
                "method": session.assurance.method,
                "createdAt": session.created_at,
                "refreshedAt": session.refreshed_at,
                "idleUntil": session.idle_until,
                "expiresAt": session.expires_at,
                "generation": session.generation,
                "endedAt": None,
                "endReason": None,
            }
        )

    async def advance(self, session_id: SessionId, generation: int, now: datetime, idle_until: datetime) -> Session | None:
        document = await self._collection.change(
            {
                "_id": session_id,
                "generation": generation,
                "endedAt": None,
                "idleUntil": {"$gt": now},
                "expiresAt": {"$gt": now},
            },
            {"$inc": {"generation": 1}, "$set": {"refreshedAt": now, "idleUntil": idle_until}},
        )
        return _session(document) if document else None

    async def end(self, session_id: SessionId, now: datetime, reason: str, tell: Topic | None = None) -> None:
        ended: Document = {"$set": {"endedAt": now, "endReason": reason}}
        if tell is not None:
            ended["$push"] = {"news": {"topic": tell, "device": None}}
        await self._collection.update({"_id": session_id, "endedAt": None}, ended)

    async def end_all_of(self, operator_id: OperatorId, now: datetime, reason: str) -> None:
        await self._collection.update_all(
            {"operatorId": operator_id, "endedAt": None}, {"$set": {"endedAt": now, "endReason": reason}}
        )

    async def live_of(self, holder_id: HolderId, now: datetime, after: str | None, limit: int) -> list[Session]:
        query: Document = {
            "holderId": holder_id,
            "endedAt": None,
            "idleUntil": {"$gt": now},
            "expiresAt": {"$gt": now},
        } | ({"_id": {"$gt": after}} if after else {})
        return [_session(d) for d in await self._collection.find(query, sort=[("_id", 1)], limit=limit)]

    async def news(self, limit: int) -> list[SessionNews]:
        documents = await self._collection.find({"news.topic": {"$exists": True}}, limit=limit)
        return [
            SessionNews(
                SessionId(document["_id"]),
                HolderId(document["holderId"]),
                Topic(item["topic"]),
                document["method"],
                # Sessions of earlier versions say no language.
                document.get("locale", DEFAULT_LOCALE),
                bytes(item["device"]) if item["device"] is not None else None,
            )
            for document in documents
            for item in document["news"]
        ]

    async def carried(self, news: SessionNews) -> None:
        await self._collection.update({"_id": news.session_id}, {"$pull": {"news": {"topic": news.topic}}})


def _owner(session: Session) -> str:
    """The field that says whose it is."""
    return "holderId" if session.role == "holder" else "operatorId"


def _session(document: Document) -> Session:
    # Sessions of before there were operators have no role.
    role = document.get("role", "holder")
    return Session(
        session_id=SessionId(document["_id"]),
        subject=document["holderId" if role == "holder" else "operatorId"],
        role=role,
        assurance=Assurance(document["level"], document["method"]),
        created_at=in_utc(document["createdAt"]),
        refreshed_at=in_utc(document["refreshedAt"]),
        idle_until=in_utc(document["idleUntil"]),
        expires_at=in_utc(document["expiresAt"]),
        generation=document["generation"],
        ended_at=in_utc(document["endedAt"]) if document["endedAt"] else None,
    )
