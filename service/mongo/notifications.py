"""Messages in the database.

True here: a message is claimed by a lease and a fence, so that of two workers one sends, and a late one settles
nothing; number, text and code are sealed. A message goes by itself when nobody needs to look at it.
"""

from datetime import datetime, timedelta
from typing import Final

from service.mongo.client import Database, Document, Duplicate
from service.notifications import Message, State
from service.vault import Vault

NAME: Final = "messages"
KEPT: Final = timedelta(days=30)


class MongoMessageStore:
    """MessageStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault

    async def add(self, message: Message, now: datetime) -> None:
        def sealed(field: str, value: str) -> bytes:
            return self._vault.seal(NAME, field, message.message_id, value)

        try:
            await self._collection.insert(
                {
                    "_id": message.message_id,
                    "to": sealed("to", message.to),
                    "toIndex": self._vault.index("messageTo", message.to),
                    "template": message.template,
                    "text": sealed("text", message.text),
                    "code": sealed("code", message.code) if message.code is not None else None,
                    "suppressed": message.suppressed,
                    "until": message.until,
                    "state": "due",
                    "dueAt": now,
                    "attempts": 0,
                    "fence": 0,
                    "createdAt": now,
                    "expiresAt": now + KEPT,
                }
            )
        except Duplicate:
            return

    async def claim(self, now: datetime, lease: timedelta) -> tuple[Message, bool] | None:
        # A lease is kept in dueAt too: a message whose worker died is simply due again when it has run out.
        update = [
            {
                "$set": {
                    "cutOff": {"$eq": ["$state", "sending"]},
                    "state": "sending",
                    "dueAt": now + lease,
                    "attempts": {"$add": ["$attempts", 1]},
                    "fence": {"$add": ["$fence", 1]},
                }
            }
        ]
        document = await self._collection.change(
            {"state": {"$in": ["due", "sending"]}, "dueAt": {"$lte": now}}, update, sort=[("dueAt", 1)]
        )
        return (self._message(document), document["cutOff"]) if document else None

    async def settle(self, message: Message, state: State, now: datetime, due_at: datetime | None = None) -> None:
        await self._collection.update(
            {"_id": message.message_id, "fence": message.fence, "state": "sending"},
            {"$set": {"state": state, "dueAt": due_at or now, "settledAt": now}},
        )

    async def waiting(self, now: datetime, to: str) -> bool:
        under_way = {"$or": [{"state": "due", "dueAt": {"$lte": now}}, {"state": "sending"}]}
        theirs = {"toIndex": self._vault.index("messageTo", to)}
        return await self._collection.find_one(under_way | theirs, {"_id": 1}) is not None

    def _message(self, document: Document) -> Message:
        def opened(field: str) -> str:
            return self._vault.open(NAME, field, document["_id"], document[field])

        return Message(
            message_id=document["_id"],
            to=opened("to"),
            template=document["template"],
            text=opened("text"),
            code=opened("code") if document["code"] is not None else None,
            suppressed=document["suppressed"],
            attempts=document["attempts"],
            fence=document["fence"],
            until=document["until"],
        )
