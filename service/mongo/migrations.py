"""Migrations: numbered steps that bring a database to what this version expects.

True here: a step may run twice without harm, is written down when it is done, and never edits a step before it; one process
migrates at a time, holding a lock that ends by itself. Never here: a step that needs the service to stop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from service.cards import BankStatus, MedicalStatus, PinState, Stage, Status
from service.ids import new_id
from service.mongo.client import Database, Duplicate

NAME: Final = "migrations"
_LOCK: Final = "lock"
_LEASE: Final = timedelta(seconds=60)
_PATIENCE: Final = 90.0


class MigrationError(Exception):
    """The database cannot be brought to this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number in the order, a name for people, and what it does."""

    number: int
    name: str
    apply: Callable[[Database], Awaitable[None]]


def _object(required: dict[str, Any]) -> dict[str, Any]:
    return {
        "bsonType": "object",
        "required": sorted(required),
        "additionalProperties": False,
        "properties": required,
    }


def _one_of(words: type[Any]) -> dict[str, Any]:
    return {"enum": [str(word) for word in words]}


_TEXT: Final = {"bsonType": "string", "minLength": 1, "maxLength": 200}
_BYTES: Final = {"bsonType": "binData"}
_TIME: Final = {"bsonType": "date"}
_TIME_OR_NOT: Final = {"bsonType": ["date", "null"]}
_COUNT: Final = {"bsonType": ["int", "long"], "minimum": 0}
_FEN: Final = {"bsonType": ["int", "long"]}

CARD_SCHEMA: Final = _object(
    {
        "_id": {"bsonType": "string", "pattern": "^card_[a-z2-7]{24}$"},
        "holderId": {"bsonType": "string", "pattern": "^hld_[a-z2-7]{24}$"},
        "regionCode": {"bsonType": "string", "pattern": "^[0-9]{6}$"},
        "number": _BYTES,
        "numberIndex": _BYTES,
        "identificationCode": _BYTES,
        "idNumber": _BYTES,
        "holderName": _BYTES,
        "generation": {"bsonType": "int", "minimum": 1, "maximum": 9},
        "bank": _object({"code": _TEXT, "account": {"bsonType": ["binData", "null"]}, "status": _one_of(BankStatus)}),
        "stage": _one_of(Stage),
        "testBatch": {"bsonType": "bool"},
        "status": _one_of(Status),
        "temporaryLossUntil": _TIME_OR_NOT,
        "activation": {
            "oneOf": [
                {"bsonType": "null"},
                _object({"id": _TEXT, "at": _TIME, "channel": _TEXT, "by": _TEXT, "request": _BYTES}),
            ]
        },
        "medical": _one_of(MedicalStatus),
        "pin": _object({"state": _one_of(PinState), "wrongTries": _COUNT}),
        "accounts": {
            "bsonType": "array",
            "maxItems": 8,
            "items": _object({"account": _TEXT, "balanceFen": _FEN, "status": _TEXT, "asOf": _TIME, "source": _TEXT}),
        },
        "expiresOn": {"bsonType": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "version": _COUNT,
        "history": {
            "bsonType": "array",
            "items": _object(
                {
                    "id": _TEXT,
                    "at": _TIME,
                    "happening": _TEXT,
                    "from": _one_of(Status),
                    "to": _one_of(Status),
                    "channel": _TEXT,
                    "by": _TEXT,
                    "reason": {"bsonType": ["string", "null"]},
                }
            ),
        },
        "outbox": {
            "bsonType": "array",
            "items": _object({"id": _TEXT, "at": _TIME, "happening": _TEXT, "tell": _TEXT, "locale": _TEXT}),
        },
    }
)


async def _cards(database: Database) -> None:
    await database.validate("cards", CARD_SCHEMA)
    cards = database.collection("cards")
    await cards.ensure_index([("numberIndex", 1), ("regionCode", 1)], name="number", unique=True)
    await cards.ensure_index([("holderId", 1), ("_id", 1)], name="holder")
    await cards.ensure_index(
        [("activation.id", 1)],
        name="activation",
        unique=True,
        partialFilterExpression={"activation.id": {"$exists": True}},
    )
    await cards.ensure_index([("outbox.id", 1)], name="outbox", sparse=True)


async def _people(database: Database) -> None:
    await database.collection("holders").ensure_index([("idNumberIndex", 1)], name="idNumber", unique=True)
    await database.collection("dependants").ensure_index([("guardianId", 1), ("_id", 1)], name="guardian")
    await database.collection("accesses").ensure_index([("holderId", 1), ("at", -1)], name="holder")


async def _sessions(database: Database) -> None:
    sessions = database.collection("sessions")
    await sessions.ensure_index([("holderId", 1), ("_id", 1)], name="holder")
    for name in ("sessions", "verifications", "limits", "idempotency", "messages"):
        # The server sweeps once a minute; whoever reads looks at the time too.
        await database.collection(name).ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _messages(database: Database) -> None:
    await database.collection("messages").ensure_index([("state", 1), ("dueAt", 1)], name="due")


STEPS: Final = (
    Step(1, "cards: validator and indexes", _cards),
    Step(2, "holders, dependants and accesses: indexes", _people),
    Step(3, "sessions and other passing documents: indexes and expiry", _sessions),
    Step(4, "messages: the queue's index", _messages),
)


async def pending(database: Database) -> list[Step]:
    """The steps that this database has not had, in order. Raises MigrationError when it is ahead of this version."""
    documents = await database.collection(NAME).find({"_id": {"$type": "int"}}, limit=10_000)
    done = {document["_id"] for document in documents}
    if done - {step.number for step in STEPS}:
        raise MigrationError("the database was migrated by a newer version")
    return [step for step in STEPS if step.number not in done]


async def migrate(database: Database, say: Callable[[str], None]) -> int:
    """Apply what is pending, one process at a time; how many steps. Raises MigrationError when the lock is not to be had."""
    if not await database.is_replicated():
        raise MigrationError("the database is a lone server: Yika needs a replica set (one member will do) or a cluster")
    if not await pending(database):
        return 0
    migrations = database.collection(NAME)
    owner = new_id("mig")
    await _lock(database, owner)
    try:
        steps = await pending(database)
        for step in steps:
            await step.apply(database)
            await migrations.replace({"_id": step.number, "name": step.name, "at": datetime.now(UTC)})
            say(f"migrated: {step.number} {step.name}")
        return len(steps)
    finally:
        await migrations.delete({"_id": _LOCK, "owner": owner})


async def _lock(database: Database, owner: str) -> None:
    migrations = database.collection(NAME)
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        now = datetime.now(UTC)
        try:
            mine = {"$set": {"owner": owner, "until": now + _LEASE}}
            if await migrations.update({"_id": _LOCK, "until": {"$lte": now}}, mine, upsert=True):
                return
        except Duplicate:
            await asyncio.sleep(0.5)
        else:
            return
    raise MigrationError("another process has been migrating for too long")
