"""Migrations: numbered steps that bring a database to what this version expects.

True here: a step may run twice without harm, is written down when it is done, and never edits a step before it; one process
migrates at a time, holding a lock that ends by itself. Never here: a step that needs the service to stop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from service.ids import new_id
from service.mendable import MendableError
from service.mongo.client import Database, Duplicate
from service.mongo.validators import (
    APPLICATION_SCHEMA,
    BATCH_SCHEMA,
    CARD_SCHEMA,
    CHECKPOINT_SCHEMA,
    CONSENT_SCHEMA,
    CONTACTS_SCHEMA,
    ECARD_SCHEMA,
    LAST_KNOWN_SCHEMA,
    LINK_SCHEMA,
    RELATION_SCHEMA,
)

NAME: Final = "migrations"
_LOCK: Final = "lock"
_LEASE: Final = timedelta(seconds=60)
_PATIENCE: Final = 90.0


class MigrationError(MendableError):
    """The database cannot be brought to this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number in the order, a name for people, and what it does."""

    number: int
    name: str
    apply: Callable[[Database], Awaitable[None]]


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


async def _seats(database: Database) -> None:
    # A dependant's few seats, each one guardian's at a time. A link that was ended has none.
    await database.collection("dependants").ensure_index(
        [("holderId", 1), ("seat", 1)], name="seat", unique=True, partialFilterExpression={"seat": {"$exists": True}}
    )


async def _card_changes(database: Database) -> None:
    # Takes everything that was good before, so processes of the earlier version go on beside it.
    await database.validate("cards", CARD_SCHEMA)


async def _operators(database: Database) -> None:
    await database.collection("operators").ensure_index([("usernameIndex", 1)], name="username", unique=True)
    await database.collection("sessions").ensure_index([("operatorId", 1)], name="operator", sparse=True)
    await database.collection("lockouts").ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _approvals(database: Database) -> None:
    approvals = database.collection("approvals")
    await approvals.ensure_index(
        [("cardId", 1), ("kind", 1)], name="pending", unique=True, partialFilterExpression={"state": "pending"}
    )
    await approvals.ensure_index([("regionCode", 1), ("askedAt", -1), ("_id", -1)], name="region")
    await approvals.ensure_index([("outbox.id", 1)], name="outbox", sparse=True)


async def _hotline(database: Database) -> None:
    await database.collection("hotline_codes").ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _insurance(database: Database) -> None:
    await database.validate("insurance", RELATION_SCHEMA)
    relations = database.collection("insurance")
    await relations.ensure_index([("holderId", 1), ("registeredAt", -1)], name="holder")
    await relations.ensure_index([("news.id", 1)], name="news", sparse=True)


async def _applications(database: Database) -> None:
    await database.validate("applications", APPLICATION_SCHEMA)
    applications = database.collection("applications")
    # One of a kind under way for a person, however many ask at once.
    await applications.ensure_index(
        [("holderId", 1), ("kind", 1)], name="running", unique=True, partialFilterExpression={"running": True}
    )
    # The card's id follows from region and number.
    for name in ("cardId", "identificationCodeIndex", "bankAccountIndex"):
        field = f"made.{name}"
        there = {field: {"$exists": True}}
        await applications.ensure_index([(field, 1)], name=name, unique=True, partialFilterExpression=there)
    await applications.ensure_index([("holderId", 1), ("createdAt", -1), ("_id", -1)], name="holder")
    await applications.ensure_index([("regionCode", 1), ("stage", 1), ("createdAt", -1)], name="region")
    await applications.ensure_index([("batchId", 1), ("_id", 1)], name="batch", sparse=True)
    await applications.ensure_index([("due.id", 1)], name="due", sparse=True)


async def _batches(database: Database) -> None:
    await database.validate("production_batches", BATCH_SCHEMA)
    batches = database.collection("production_batches")
    await batches.ensure_index([("regionCode", 1), ("createdAt", -1)], name="region")
    await batches.ensure_index([("regionCode", 1), ("supplier", 1), ("product", 1), ("state", 1)], name="passed")
    await batches.ensure_index([("due", 1)], name="due", sparse=True)


async def _consents(database: Database) -> None:
    await database.validate("consents", CONSENT_SCHEMA)
    # A person's lie together; the id follows from the person and the purpose.
    consents = database.collection("consents")
    await consents.ensure_index([("holderId", 1), ("_id", 1)], name="holder")
    await consents.ensure_index([("news.id", 1)], name="news", sparse=True)


async def _guardians(database: Database) -> None:
    # Receipts of those who acted for others. Cards on which nobody did are not in it.
    await database.collection("cards").ensure_index([("history.guardian", 1)], name="guardian", sparse=True)


async def _ledger(database: Database) -> None:
    await database.validate("ledger", LINK_SCHEMA)
    await database.validate("ledger_checkpoints", CHECKPOINT_SCHEMA)
    links, accesses = database.collection("ledger"), database.collection("accesses")
    # A place is taken once, and a link is followed by one: so no two can append behind the same.
    await links.ensure_index([("lane", 1), ("seq", 1)], name="place", unique=True)
    await links.ensure_index([("lane", 1), ("previous", 1)], name="previous", unique=True)
    # An entry without a place waits for one, also when an older version wrote it; the others lie in the chain's order.
    await accesses.ensure_index([("chained.lane", 1), ("chained.seq", 1), ("at", 1)], name="chained")
    await accesses.ensure_index([("action", 1)], name="erasure", partialFilterExpression={"action": "erase"})


async def _ecards(database: Database) -> None:
    await database.validate("ecards", ECARD_SCHEMA)
    await database.collection("ecards").ensure_index([("news.id", 1)], name="news", sparse=True)
    codes = database.collection("ecard_codes")
    await codes.ensure_index([("known", 1)], name="known")
    await codes.ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _last_known(database: Database) -> None:
    await database.validate("last_known", LAST_KNOWN_SCHEMA)
    kept = database.collection("last_known")
    await kept.ensure_index([("holderId", 1), ("_id", 1)], name="holder")
    await kept.ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _queues(database: Database) -> None:
    # A queue by itself, so that none is looked through for another's messages. Those of earlier versions are in none.
    await database.collection("messages").ensure_index([("queue", 1), ("state", 1), ("dueAt", 1)], name="queue")


async def _data_rights(database: Database) -> None:
    # So that what is kept about somebody is found by whose it is, to be copied or erased.
    for name in ("approvals", "dependants", "visits", "verifications", "ecards", "ecard_codes", "messages"):
        await database.collection(name).ensure_index([("holderId", 1)], name="whose")
    # Only answers that show personal data say whose they are.
    await database.collection("idempotency").ensure_index([("holderId", 1)], name="whose", sparse=True)
    await database.collection("messages").ensure_index([("toIndex", 1)], name="to")
    await database.collection("erasures").ensure_index([("step", 1), ("dueAt", 1)], name="due")


async def _contacts(database: Database) -> None:
    await database.validate("contacts", CONTACTS_SCHEMA)
    for name in ("contacts", "dependants"):
        await database.collection(name).ensure_index([("news.id", 1)], name="news", sparse=True)
    await database.collection("sessions").ensure_index([("news.topic", 1)], name="news", sparse=True)
    # A device is forgotten on its day; whoever asks about one looks at the time too.
    await database.collection("familiar_devices").ensure_index([("expiresAt", 1)], name="expiry", expireAfterSeconds=3600)


async def _contact_requests(database: Database) -> None:
    await database.validate("contacts", CONTACTS_SCHEMA)


STEPS: Final = (
    Step(1, "cards: validator and indexes", _cards),
    Step(2, "holders, dependants and accesses: indexes", _people),
    Step(3, "sessions and other passing documents: indexes and expiry", _sessions),
    Step(4, "messages: the queue's index", _messages),
    Step(5, "dependants: a seat for each guardian", _seats),
    Step(6, "cards: PIN hashes, reasons of locks, and which request did what", _card_changes),
    Step(7, "operators, their sessions, and lockouts: indexes and expiry", _operators),
    Step(8, "approvals: one pending for a card and an action; the list and the outbox", _approvals),
    Step(9, "hotline: codes and their expiry", _hotline),
    Step(10, "insurance: validator, whose relations, and what waits", _insurance),
    Step(11, "applications: validator, one of a kind under way, numbers of new cards, and what is due", _applications),
    Step(12, "production batches: validator, lists, and what is due", _batches),
    Step(13, "consents: validator, whose they are, and news", _consents),
    Step(14, "cards: on which somebody acted as guardian", _guardians),
    Step(15, "ledger: validators, places and followers taken once, entries in the order of the chain", _ledger),
    Step(16, "e-cards: validator, news; their codes and expiry", _ecards),
    Step(17, "last known documents of cities: validator, whose they are, and expiry", _last_known),
    Step(18, "messages: a queue for each channel and one for codes", _queues),
    Step(19, "what is kept about somebody is found by whose it is; erasures", _data_rights),
    Step(20, "contacts: validator; what people are to hear of sessions and links; familiar devices", _contacts),
    Step(21, "contacts: the marks of the last requests", _contact_requests),
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
