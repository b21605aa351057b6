"""The ledger in the database: the chain, the secrets of its subjects, checkpoints, and who leads.

True here: a link's id is its commitment, so an access entry becomes one link; a place in a lane is taken once, and a link is
followed by one; links are added one after the other, so that none ever stands behind a gap. Where an entry is in the chain
stands in the entry. Never here: a link that is changed or deleted; only a sandbox that is brought back begins anew.
"""

import asyncio
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from service.checkpoints import Checkpoint
from service.ids import HolderId
from service.ledger import ERASURE, Head, Link, Written, beginning
from service.mongo.client import Database, Document, Duplicate, change_of
from service.mongo.holders import ACCESSES, NONCE_BYTES, access_of
from service.sequencing import Lease

NAME: Final = "ledger"
SUBJECTS: Final = "ledger_subjects"
CHECKPOINTS: Final = "ledger_checkpoints"
STATE: Final = "ledger_state"
LEASE: Final = "sequencer"
_SECRET_BYTES: Final = 32
# An entry has no place until it is in the chain; also one of a version that knew no chain.
_WAITING: Final[Document] = {"chained.lane": None, "chained.seq": None}
_CHAINED: Final[Document] = {"chained.seq": {"$gt": 0}}
# Nobody looks closer at a backlog of more.
_MOST_COUNTED: Final = 1_000_000


class MongoLedgerStore:
    """LedgerStore, SequencerStore and ChainStore."""

    def __init__(self, database: Database) -> None:
        self._links = database.collection(NAME)
        self._subjects = database.collection(SUBJECTS)
        self._checkpoints = database.collection(CHECKPOINTS)
        self._state = database.collection(STATE)
        self._accesses = database.collection(ACCESSES)

    # Who leads

    async def lease(self) -> Lease:
        document = await self._state.find_one({"_id": LEASE})
        return Lease(document["owner"], document["fence"], document["beat"]) if document else Lease(None, 0, 0)

    async def take_lease(self, seen: Lease, owner: str) -> bool:
        as_seen = {"_id": LEASE, "owner": seen.owner, "fence": seen.fence, "beat": seen.beat}
        mine = {"$set": {"owner": owner, "fence": seen.fence + 1, "beat": 0}}
        try:
            if await self._state.update(as_seen, mine, upsert=seen.fence == 0):
                return True
        except Duplicate:
            return False
        return await self._state.find_one({"_id": LEASE, "owner": owner, "fence": seen.fence + 1}) is not None

    async def keep_lease(self, owner: str, fence: int) -> bool:
        return await self._state.update({"_id": LEASE, "owner": owner, "fence": fence}, {"$inc": {"beat": 1}})

    async def release_lease(self, owner: str, fence: int) -> None:
        await self._state.update({"_id": LEASE, "owner": owner, "fence": fence}, {"$set": {"owner": None}})

    # From the logs into the chain

    async def unchained(self, limit: int) -> list[Written]:
        documents = await self._accesses.find(_WAITING, sort=[("at", 1)], limit=limit)
        bare = [document for document in documents if "nonce" not in document]
        if bare:
            # Of a version that drew none. Whoever is first draws it, and then it stays.
            await self._accesses.bulk(
                [
                    change_of(
                        {"_id": document["_id"], "holderId": document["holderId"], "nonce": {"$exists": False}},
                        {"$set": {"nonce": secrets.token_bytes(NONCE_BYTES)}},
                    )
                    for document in bare
                ]
            )
            return await self.unchained(limit)
        return [_written(document) for document in documents]

    async def secret(self, holder_id: HolderId) -> bytes:
        return (await self.secrets([holder_id]))[holder_id]

    async def secrets(self, holder_ids: Collection[HolderId]) -> dict[HolderId, bytes]:
        found = await self._known(holder_ids)
        missing = [holder_id for holder_id in holder_ids if holder_id not in found]
        if not missing:
            return found
        fresh = [{"_id": holder_id, "secret": secrets.token_bytes(_SECRET_BYTES)} for holder_id in missing]
        # Where somebody else was first, theirs counts.
        await self._subjects.insert_all(fresh)
        return found | await self._known(missing)

    async def _known(self, holder_ids: Collection[HolderId]) -> dict[HolderId, bytes]:
        documents = await self._subjects.find({"_id": {"$in": list(holder_ids)}}, limit=len(holder_ids))
        return {HolderId(document["_id"]): bytes(document["secret"]) for document in documents}

    async def heads(self, lanes: Collection[int]) -> dict[int, Head]:
        return dict(zip(lanes, await asyncio.gather(*map(self._head, lanes)), strict=True))

    async def _head(self, lane: int) -> Head:
        last = await self._links.find({"lane": lane}, projection={"seq": 1, "hash": 1}, sort=[("seq", -1)], limit=1)
        return Head(last[0]["seq"], bytes(last[0]["hash"])) if last else beginning(lane)

    async def append(self, links: Sequence[Link]) -> bool:
        return await self._links.insert_in_order([_link_document(link) for link in links])

    async def places(self, commitments: Collection[bytes]) -> dict[bytes, int]:
        query = {"_id": {"$in": list(commitments)}}
        documents = await self._links.find(query, projection={"seq": 1}, limit=len(commitments))
        return {bytes(document["_id"]): document["seq"] for document in documents}

    async def mark(self, placed: Sequence[tuple[Written, int]]) -> None:
        if not placed:
            return
        _, refused = await self._accesses.bulk(
            [
                change_of(
                    {"_id": written.access.access_id, "holderId": written.holder_id},
                    {"$set": {"chained": {"lane": written.lane, "seq": seq}}},
                )
                for written, seq in placed
            ]
        )
        for error in refused.values():
            raise error

    # Checkpoints

    async def last_checkpoint(self) -> Checkpoint | None:
        found = await self._checkpoints.find({}, sort=[("_id", -1)], limit=1)
        return _checkpoint(found[0]) if found else None

    async def last_checkpoint_at(self) -> datetime | None:
        last = await self.last_checkpoint()
        return last.at if last else None

    async def add_checkpoint(self, checkpoint: Checkpoint) -> bool:
        document = {"_id": checkpoint.number, "at": checkpoint.at, "signed": checkpoint.signed, "links": checkpoint.links}
        try:
            await self._checkpoints.insert(document)
        except Duplicate:
            return False
        return True

    async def checkpoints(self, after: int, limit: int) -> list[Checkpoint]:
        documents = await self._checkpoints.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=limit)
        return [_checkpoint(document) for document in documents]

    # Erasures, and how far behind

    async def erasures(self, limit: int) -> list[Written]:
        documents = await self._accesses.find({"action": ERASURE, **_CHAINED}, limit=limit)
        return [_written(document) for document in documents]

    async def erase(self, erasure: Written) -> bool:
        whose: Document = {"holderId": erasure.holder_id}
        own = {"_id": erasure.access.access_id, **whose}
        await self._accesses.delete_all({**whose, **_CHAINED, "_id": {"$ne": erasure.access.access_id}})
        # What came beside the erasure becomes a link under the old secret first, so that the erasure is about it too.
        if await self._accesses.find_one({**whose, **_WAITING}, {"_id": 1}) is not None:
            return False
        await self._subjects.delete({"_id": erasure.holder_id})
        await self._accesses.delete(own)
        return True

    async def waiting(self) -> tuple[int, datetime | None]:
        count = await self._accesses.count(_WAITING, _MOST_COUNTED)
        oldest = await self._accesses.find(_WAITING, projection={"at": 1}, sort=[("at", 1)], limit=1)
        return count, oldest[0]["at"] if oldest else None

    # Reading along the chain

    async def links(self, lane: int, first: int, last: int, limit: int) -> list[Link]:
        query = {"lane": lane, "seq": {"$gte": first, "$lte": last}}
        return [_link(document) for document in await self._links.find(query, sort=[("seq", 1)], limit=limit)]

    async def words(self, lane: int, first: int, last: int, limit: int) -> list[Written]:
        query = {"chained.lane": lane, "chained.seq": {"$gte": first, "$lte": last}}
        documents = await self._accesses.find(query, sort=[("chained.seq", 1)], limit=limit)
        return [_written(document) for document in documents]

    async def last_words(self, lane: int) -> int:
        last = await self._accesses.find({"chained.lane": lane}, projection={"chained": 1}, sort=[("chained.seq", -1)], limit=1)
        return last[0]["chained"]["seq"] if last else 0


def _written(document: Document) -> Written:
    chained = document.get("chained")
    return Written(
        HolderId(document["holderId"]),
        access_of(document),
        bytes(document.get("nonce", b"")),
        chained["seq"] if chained else None,
    )


def _link_document(link: Link) -> Document:
    return {
        "_id": link.commitment,
        "lane": link.lane,
        "seq": link.seq,
        "previous": link.previous,
        "hash": link.hash,
        "subject": link.subject,
        "at": link.at,
        "action": link.action,
        "by": link.by,
        "channel": link.channel,
        "operatorId": link.operator_id,
    }


def _link(document: Document) -> Link:
    return Link(
        lane=document["lane"],
        seq=document["seq"],
        previous=bytes(document["previous"]),
        commitment=bytes(document["_id"]),
        subject=bytes(document["subject"]),
        at=document["at"],
        action=document["action"],
        by=document["by"],
        channel=document["channel"],
        operator_id=document["operatorId"],
        hash=bytes(document["hash"]),
    )


def _checkpoint(document: Document) -> Checkpoint:
    return Checkpoint(document["_id"], document["at"], document["signed"], document["links"])
