"""Messages in the database.

True here: a message is claimed by a lease and a fence, so that of two workers one sends, and a late one settles nothing;
number or address, text, subject and code are sealed. A message goes by itself when nobody needs to look at it. Never here: a
message that cannot be read and blocks its queue; whoever claims it is told so.
"""

import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from service.deliveries import MOST_COUNTED, Claim, Queue, Queued, Unreadable, queue_of
from service.ids import new_id
from service.locale import DEFAULT_LOCALE
from service.mongo.client import Database, Document, Duplicate
from service.mongo.writes import Writes
from service.notifications import Message, State
from service.vault import UnknownKeyError, Vault, VaultError

NAME: Final = "messages"
KEPT: Final = timedelta(days=30)
# When others took what was seen due, there may be more behind it.
_ROUNDS: Final = 3
_UNDER_WAY: Final = {"state": {"$in": ["due", "sending"]}}


class MongoMessageStore:
    """MessageStore and DeliveryStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._writes = Writes(self._collection)
        self._vault = vault

    async def add(self, message: Message, now: datetime, due_at: datetime | None = None) -> None:
        """Keep a message that is due now, or later; one with the same id is already kept and stays as it is."""
        sealed = self._vault.sealing(NAME, message.message_id)
        with suppress(Duplicate):
            await self._writes.insert(
                {
                    "_id": message.message_id,
                    "channel": message.channel,
                    "queue": queue_of(message),
                    "to": sealed("to", message.to),
                    "toIndex": self._vault.index("messageTo", message.to),
                    "template": message.template,
                    "subject": sealed("subject", message.subject) if message.subject is not None else None,
                    "text": sealed("text", message.text),
                    "code": sealed("code", message.code) if message.code is not None else None,
                    "values": sealed("values", json.dumps(dict(message.values))),
                    "locale": message.locale,
                    "suppressed": message.suppressed,
                    "until": message.until,
                    "state": "due",
                    "dueAt": due_at or now,
                    "attempts": 0,
                    "fence": 0,
                    "createdAt": now,
                    "expiresAt": now + KEPT,
                }
                | ({"holderId": message.whose} if message.whose is not None else {})
            )

    async def claim(self, queue: Queue, now: datetime, lease: timedelta, limit: int) -> list[Claim | Unreadable]:
        # A lease is kept in dueAt too: a message whose worker died is simply due again when it has run out.
        due: Document = _of(queue) | _UNDER_WAY | {"dueAt": {"$lte": now}}
        for _ in range(_ROUNDS):
            seen = await self._collection.find(due, projection={"_id": 1}, sort=[("dueAt", 1)], limit=limit)
            if not seen:
                return []
            ids = [document["_id"] for document in seen]
            claim = new_id("clm")
            update = [
                {
                    "$set": {
                        "cutOff": {"$eq": ["$state", "sending"]},
                        "state": "sending",
                        "dueAt": now + lease,
                        "attempts": {"$add": ["$attempts", 1]},
                        "fence": {"$add": ["$fence", 1]},
                        "claim": claim,
                    }
                }
            ]
            if len(ids) == 1:
                one = await self._collection.change({"_id": ids[0]} | _UNDER_WAY | {"dueAt": {"$lte": now}}, update)
                taken = [one] if one else []
            else:
                # One write and one look for many. Of those who saw the same, the first has each.
                await self._collection.update_all({"_id": {"$in": ids}} | _UNDER_WAY | {"dueAt": {"$lte": now}}, update)
                taken = await self._collection.find({"_id": {"$in": ids}, "claim": claim}, limit=limit)
            if taken:
                return [self._claim(document) for document in taken]
        return []

    async def settle(self, message_id: str, fence: int, state: State, now: datetime, due_at: datetime | None = None) -> None:
        await self._writes.update(
            {"_id": message_id, "fence": fence, "state": "sending"},
            {"$set": {"state": state, "dueAt": due_at or now, "settledAt": now}},
        )

    async def waiting(self, now: datetime, to: str) -> bool:
        under_way = {"$or": [{"state": "due", "dueAt": {"$lte": now}}, {"state": "sending"}]}
        theirs = {"toIndex": self._vault.index("messageTo", to)}
        return await self._collection.find_one(under_way | theirs, {"_id": 1}) is not None

    async def queued(self, now: datetime) -> Queued:
        due: Document = _UNDER_WAY | {"dueAt": {"$lte": now}}
        first = await self._collection.find(due, projection={"dueAt": 1}, sort=[("dueAt", 1)], limit=1)
        return Queued(
            due=await self._collection.count(due, MOST_COUNTED) if first else 0,
            oldest=first[0]["dueAt"] if first else None,
            dead=await self._collection.count({"state": "dead"}, MOST_COUNTED),
            uncertain=await self._collection.count({"state": "uncertain"}, MOST_COUNTED),
        )

    def _claim(self, document: Document) -> Claim | Unreadable:
        try:
            return Claim(self._message(document), document["cutOff"])
        except (VaultError, LookupError, TypeError, ValueError) as error:
            lasting = not isinstance(error, UnknownKeyError)
            return Unreadable(document["_id"], document["attempts"], document["fence"], lasting)

    def _message(self, document: Document) -> Message:
        def opened(field: str) -> str:
            return self._vault.open(NAME, field, document["_id"], document[field])

        return Message(
            message_id=document["_id"],
            # Documents of earlier versions are text messages and do not say so.
            channel=document.get("channel", "sms"),
            to=opened("to"),
            template=document["template"],
            subject=opened("subject") if document.get("subject") is not None else None,
            text=opened("text"),
            code=opened("code") if document["code"] is not None else None,
            values=json.loads(opened("values")) if "values" in document else {},
            locale=document.get("locale", DEFAULT_LOCALE),
            suppressed=document["suppressed"],
            attempts=document["attempts"],
            fence=document["fence"],
            until=document["until"],
            whose=document.get("holderId"),
        )


def _of(queue: Queue) -> dict[str, Any]:
    """Documents of earlier versions name no queue."""
    return {"queue": {"$in": ["sms", None]}} if queue == "sms" else {"queue": queue}
