"""Messages in the database as those see them who look after them: nothing of theirs is opened, so it takes no keyring.

True here: what is said of a message is written on the condition that it is stuck. Never here: a message that is under way.
"""

from datetime import datetime
from typing import Final

from service.mongo.client import Database, Document
from service.mongo.notifications import NAME
from service.undelivered import STUCK, Stuck, StuckState

_SHOWN: Final = dict.fromkeys(("state", "channel", "template", "attempts", "createdAt", "settledAt", "until"), 1)
_STUCK: Final[Document] = {"state": {"$in": list(STUCK)}}


class MongoUndeliveredStore:
    """UndeliveredStore."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection(NAME)

    async def undelivered(self, states: tuple[StuckState, ...], limit: int) -> list[Stuck]:
        # Of what is settled, dueAt is when that was.
        query = {"state": {"$in": list(states)}}
        found = await self._collection.find(query, projection=_SHOWN, sort=[("dueAt", -1)], limit=limit)
        return [_stuck(document) for document in found]

    async def stuck(self, message_id: str) -> Stuck | None:
        document = await self._collection.find_one({"_id": message_id}, _SHOWN)
        return _stuck(document) if document else None

    async def offer_again(self, message_id: str, now: datetime) -> bool:
        # The fence stays: whoever comes late from a try of before still settles nothing.
        again = {"$set": {"state": "due", "dueAt": now, "attempts": 0}}
        return await self._collection.update({"_id": message_id} | _STUCK, again)

    async def close(self, message_id: str, now: datetime) -> bool:
        closed = {"$set": {"state": "closed", "dueAt": now, "settledAt": now}}
        return await self._collection.update({"_id": message_id} | _STUCK, closed)


def _stuck(document: Document) -> Stuck:
    return Stuck(
        message_id=document["_id"],
        state=document["state"],
        channel=document.get("channel", "sms"),
        template=document["template"],
        attempts=document["attempts"],
        posted_at=document["createdAt"],
        settled_at=document.get("settledAt"),
        until=document["until"],
    )
