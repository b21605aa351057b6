"""The sandbox in the database: what was sent, which failures were asked for, and the clock that all processes share.

True here: a failure is used up by one conditional write, and the clock moves by one, so both are exact between processes;
number, text and code of a message are sealed. Never here: anything that a production database would hold.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from service.mongo import (
    applications,
    approvals,
    cards,
    consents,
    contacts,
    dependants,
    ecards,
    erasures,
    familiar,
    holders,
    hotline,
    idempotency,
    identity,
    imports,
    insurance,
    last_known,
    ledger,
    limits,
    lockouts,
    notifications,
    operators,
    production_batches,
    sessions,
    visits,
)
from service.mongo.client import Database, Document, Duplicate
from service.mongo.keyring import is_production
from service.mongo.reads import Reads
from service.mongo.writes import Writes
from service.sandbox.gateways import Fault, Gateway, Sent
from service.sandbox.seeding import Kept
from service.vault import Vault

MESSAGES: Final = "sandbox_messages"
FAULTS: Final = "sandbox_faults"
STATE: Final = "sandbox_state"

# What went out within this of being posted was not held back.
_AT_ONCE: Final = timedelta(minutes=1)
_CLOCK: Final = "clock"
_SEEDING: Final = "seeding"
_RESET: Final = "reset"
# What a reset forgets whole; limits last, because a try that was under way may still be counted.
_PASSING: Final = (
    applications.NAME,
    production_batches.NAME,
    holders.ACCESSES,
    ledger.NAME,
    ledger.SUBJECTS,
    ledger.CHECKPOINTS,
    identity.NAME,
    idempotency.NAME,
    imports.NAME,
    notifications.NAME,
    MESSAGES,
    FAULTS,
    lockouts.NAME,
    hotline.NAME,
    visits.NAME,
    last_known.NAME,
    ecards.NAME,
    ecards.CODES,
    approvals.NAME,
    familiar.NAME,
    limits.NAME,
)


class MongoSandboxStore:
    """SandboxStore, and the stores of the sandbox's gateways."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._messages = database.collection(MESSAGES)
        self._posted = database.collection(notifications.NAME)
        self._arrivals = Writes(self._messages)
        self._faults = database.collection(FAULTS)
        self._asked_for = Reads(self._faults, _fault)
        self._state = database.collection(STATE)
        self._passing = [database.collection(name) for name in _PASSING]
        self._sessions = database.collection(sessions.NAME)
        self._vault = vault

    async def is_production(self) -> bool:
        return await is_production(self._database)

    async def prepare(self) -> None:
        await self._messages.ensure_index([("toIndex", 1), ("sentAt", -1)], name="to")

    async def claim_seeding(self, edition: str, now: datetime, lease: timedelta) -> bool | None:
        # Not merely a lease that ran out: a reset brings an edition without ever taking one.
        free = {"_id": _SEEDING, "edition": {"$ne": edition}, "until": {"$not": {"$gt": now}}}
        try:
            await self._state.update(free, {"$set": {"until": now + lease}}, upsert=True)
        except Duplicate:
            return False if await self._state.find_one({"_id": _SEEDING, "edition": edition}) else None
        return True

    async def seeded(self, edition: str | None) -> None:
        done: dict[str, Any] = {"$set": {"edition": edition}}
        await self._state.update({"_id": _SEEDING}, done, upsert=True)

    async def forget(self, now: datetime) -> None:
        # Nobody has led since the reset began, so no link is appended behind one that is deleted here.
        await asyncio.gather(
            *(collection.delete_all() for collection in self._passing),
            self._sessions.delete_all({"createdAt": {"$gt": now}}),
        )
        await self._lead_the_ledger(None)

    async def _lead_the_ledger(self, owner: str | None) -> None:
        """Take the ledger's lease from whoever has it; with nobody in their place, whoever is first leads."""
        lease: Document = {"$set": {"owner": owner, "beat": 0}, "$inc": {"fence": 1}}
        await self._database.collection(ledger.STATE).update({"_id": ledger.LEASE}, lease, upsert=True)

    async def retain(self, kept: Kept) -> None:
        await self._lead_the_ledger(_RESET)
        named: tuple[tuple[str, list[str]], ...] = (
            (holders.NAME, kept.holders),
            (cards.NAME, kept.cards),
            (dependants.NAME, kept.dependants),
            (operators.NAME, kept.operators),
            (insurance.NAME, kept.relations),
            (consents.NAME, kept.consents),
            # Before anybody is put back, or a relay would go on erasing them.
            (erasures.NAME, []),
            (contacts.NAME, kept.contacts),
        )
        await asyncio.gather(*(self._database.collection(name).delete_all({"_id": {"$nin": ids}}) for name, ids in named))

    async def keep(self, sent: Sent) -> None:
        def sealed(field: str, value: str) -> bytes:
            return self._vault.seal(MESSAGES, field, sent.message_id, value)

        with suppress(Duplicate):
            await self._arrivals.insert(
                {
                    "_id": sent.message_id,
                    "channel": sent.channel,
                    "to": sealed("to", sent.to),
                    "toIndex": self._vault.index("sandboxTo", sent.to),
                    "template": sent.template,
                    "text": sealed("text", sent.text),
                    "code": sealed("code", sent.code) if sent.code is not None else None,
                    "sentAt": sent.sent_at,
                }
            )

    async def sent_to(self, to: str, limit: int) -> list[Sent]:
        index = self._vault.index("sandboxTo", to)
        documents = await self._messages.find({"toIndex": index}, sort=[("sentAt", -1), ("_id", 1)], limit=limit)
        # A code overtakes what was posted a moment before it; who asks for the newest means what was posted last. What was
        # held back, for the morning or by a failure, is as new as when it went out.
        ids = [document["_id"] for document in documents]
        posted = {one["_id"]: one["createdAt"] for one in await self._posted.find({"_id": {"$in": ids}}, limit=limit)}

        def moment(document: Document) -> datetime:
            sent: datetime = document["sentAt"]
            since: datetime = posted.get(document["_id"], sent)
            return since if sent - since < _AT_ONCE else sent

        return [self._sent(document) for document in sorted(documents, key=moment, reverse=True)]

    async def take_fault(self, gateway: Gateway, among: tuple[Fault, ...]) -> Fault | None:
        # Mostly none is: a shared look is enough to know that.
        if await self._asked_for.get(gateway) not in among:
            return None
        document = await self._faults.change(
            {"_id": gateway, "fault": {"$in": list(among)}, "left": {"$gt": 0}}, {"$inc": {"left": -1}}
        )
        fault: Fault | None = document["fault"] if document else None
        return fault

    async def set_fault(self, gateway: Gateway, fault: Fault, times: int) -> None:
        await self._faults.replace({"_id": gateway, "fault": fault, "left": times})

    async def clock(self) -> tuple[int, int]:
        document = await self._state.find_one({"_id": _CLOCK})
        return (document["aheadSeconds"], document["resets"]) if document else (0, 0)

    async def advance_clock(self, seconds: int, furthest: int) -> int | None:
        near_enough = {"_id": _CLOCK, "aheadSeconds": {"$lte": furthest - seconds}}
        try:
            document = await self._state.change(near_enough, {"$inc": {"aheadSeconds": seconds, "resets": 0}}, upsert=True)
        except Duplicate:
            return None
        return document["aheadSeconds"] if document else None

    async def reset_clock(self) -> int:
        back: dict[str, Any] = {"$set": {"aheadSeconds": 0}, "$inc": {"resets": 1}}
        document = await self._state.change({"_id": _CLOCK}, back, upsert=True)
        if document is None:
            raise AssertionError("an upsert gives a document")
        return int(document["resets"])

    def _sent(self, document: Document) -> Sent:
        def opened(field: str) -> str:
            return self._vault.open(MESSAGES, field, document["_id"], document[field])

        return Sent(
            message_id=document["_id"],
            channel=document["channel"],
            to=opened("to"),
            template=document["template"],
            text=opened("text"),
            code=opened("code") if document["code"] is not None else None,
            sent_at=document["sentAt"],
        )


def _fault(document: Document) -> Fault | None:
    """The failure that is asked for still."""
    fault: Fault = document["fault"]
    return fault if document["left"] > 0 else None
