"""Contacts in the database: one document a person, under the person's own id.

True here: a try at a code is counted, and a change made, by one conditional write each; what somebody is to hear of lies in
the document until it is told. Addresses are sealed. Never here: a code, or an address in plain or in an index; nobody is
looked up by one.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from service.announcements import Topic
from service.contacts import ContactNews, Contacts, Pending, WaitingNews, unknown
from service.ids import HolderId
from service.mongo.client import Database, Document, Duplicate
from service.mongo.reads import Reads
from service.reach import UNTOLD, Reach
from service.vault import Vault

NAME: Final = "contacts"
_REACH: Final = {"email": 1, "smsDeclined": 1, "emailDeclined": 1, "locale": 1}
_STATE: Final = {"news": 0}


class MongoContactStore:
    """ContactStore."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._collection = database.collection(NAME)
        self._vault = vault
        # Those of many are asked for side by side, when the relay tells what happened to them.
        self._reaches = Reads(self._collection, self._reach, projection=_REACH)

    async def reach(self, holder_id: HolderId) -> Reach:
        return await self._reaches.get(holder_id) or UNTOLD

    async def contacts(self, holder_id: HolderId) -> Contacts:
        document = await self._collection.find_one({"_id": holder_id}, _STATE)
        return self._contacts(document) if document else unknown(holder_id)

    async def ask(self, holder_id: HolderId, pending: Pending) -> None:
        item = {
            "email": self._vault.seal(NAME, "pending.email", holder_id, pending.email),
            "code": pending.code,
            "tries": pending.tries,
            "expiresAt": pending.expires_at,
        }
        # Whoever never said anything has a document from now on, at version 0.
        update: Document = {"$set": {"pending": item}, "$setOnInsert": _nothing_said()}
        try:
            await self._collection.update({"_id": holder_id}, update, upsert=True)
        except Duplicate:
            # Another request made the document at the same instant, so it is there now.
            await self._collection.update({"_id": holder_id}, {"$set": {"pending": item}})

    async def count_try(self, holder_id: HolderId, most: int, now: datetime) -> Contacts | None:
        open_ = {"pending.tries": {"$lt": most}, "pending.expiresAt": {"$gt": now}}
        document = await self._collection.change({"_id": holder_id} | open_, {"$inc": {"pending.tries": 1}}, projection=_STATE)
        return self._contacts(document) if document else None

    async def change(self, before: Contacts, after: Contacts, news: ContactNews | None) -> bool:
        query: Document = {"_id": before.holder_id, "version": before.version}
        update: Document = {"$set": self._state(after)}
        if news is not None:
            update["$push"] = {"news": self._news_item(news)}
        if before.pending is not None and after.pending is None:
            # A newer code may have been sent since, to another address.
            query["pending.code"] = before.pending.code
            update["$set"] |= {"pending": None}
        elif before.version == 0:
            # Who never said anything has no document yet.
            try:
                await self._collection.update(query, update | {"$setOnInsert": {"pending": None}}, upsert=True)
            except Duplicate:
                return False
            return True
        return await self._collection.update(query, update)

    async def news(self, limit: int) -> list[WaitingNews]:
        documents = await self._collection.find({"news.id": {"$exists": True}}, projection={"news": 1}, limit=limit)
        return [
            WaitingNews(item["id"], partial(self._news, document["_id"], item))
            for document in documents
            for item in document["news"]
        ]

    async def carried(self, news: ContactNews) -> None:
        await self._collection.update({"_id": news.holder_id}, {"$pull": {"news": {"id": news.news_id}}})

    async def put(self, contacts: Contacts) -> None:
        """Put the contacts of a person, for a sandbox."""
        await self._collection.replace({"_id": contacts.holder_id, "pending": None} | self._state(contacts))

    def _state(self, contacts: Contacts) -> Document:
        """All of it but what is pending, and what is to be told of it."""
        reach = contacts.reach
        email = self._vault.seal(NAME, "email", contacts.holder_id, reach.email) if reach.email is not None else None
        return {
            "email": email,
            "confirmedAt": contacts.confirmed_at,
            "smsDeclined": sorted(reach.sms_declined),
            "emailDeclined": sorted(reach.email_declined),
            "locale": reach.locale,
            "version": contacts.version,
            # For processes of an earlier version, which know of the last request alone.
            "changedBy": contacts.requests[-1] if contacts.requests else None,
            "requests": [*contacts.requests],
        }

    def _reach(self, document: Mapping[str, Any]) -> Reach:
        email = document["email"]
        return Reach(
            email=self._vault.open(NAME, "email", document["_id"], email) if email is not None else None,
            sms_declined=frozenset(document["smsDeclined"]),
            email_declined=frozenset(document["emailDeclined"]),
            locale=document["locale"],
        )

    def _contacts(self, document: Mapping[str, Any]) -> Contacts:
        return Contacts(
            holder_id=HolderId(document["_id"]),
            reach=self._reach(document),
            confirmed_at=document["confirmedAt"],
            pending=self._pending(document["_id"], document["pending"]),
            version=document["version"],
            requests=_requests(document),
        )

    def _pending(self, holder_id: str, item: Mapping[str, Any] | None) -> Pending | None:
        if item is None:
            return None
        email = self._vault.open(NAME, "pending.email", holder_id, item["email"])
        return Pending(email, bytes(item["code"]), item["tries"], item["expiresAt"])

    def _news_item(self, news: ContactNews) -> Document:
        instead = self._vault.seal(NAME, "news.instead", news.holder_id, news.instead) if news.instead is not None else None
        return {"id": news.news_id, "topic": news.topic, "locale": news.locale, "instead": instead}

    def _news(self, holder_id: str, item: Mapping[str, Any]) -> ContactNews:
        instead = item["instead"]
        return ContactNews(
            news_id=item["id"],
            holder_id=HolderId(holder_id),
            topic=Topic(item["topic"]),
            locale=item["locale"],
            instead=self._vault.open(NAME, "news.instead", holder_id, instead) if instead is not None else None,
        )


def _requests(document: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The marks that are kept, and that of an earlier version, which kept one alone and leaves the others as they are."""
    kept = tuple(bytes(mark) for mark in document.get("requests", ()))
    last = document["changedBy"]
    return kept if last is None or bytes(last) in kept else (*kept, bytes(last))


def _nothing_said() -> Document:
    return {
        "email": None,
        "confirmedAt": None,
        "smsDeclined": [],
        "emailDeclined": [],
        "locale": None,
        "version": 0,
        "changedBy": None,
        "requests": [],
    }
