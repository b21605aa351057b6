"""The ledger: a chain over every entry of the access logs, so that none can be changed, moved or taken out unnoticed.

True here: a link of the chain names no person. Whose it is stands in it as a keyed code under a secret of that person alone,
and what was said in words as a digest with a random nonce that lies beside the words; both go when somebody is erased, and
the chain stays whole. A person's links are always in the same lane. Never here: a person's id or a word of theirs in a link;
the access entry, which its holder reads, is where those lie (service/holders.py).

How a link is made, for whoever checks it without us, is written in docs/ledger.md.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

import orjson

from service.clock import Clock
from service.holders import Access, AccessLogStore
from service.ids import HolderId, derived_id

# For good: a person would otherwise change lanes, and their links lie in two.
LANES: Final = 8
# What an erasure is called in the logs and in the chain.
ERASURE: Final = "erase"
_FORM: Final = "yika.ledger.1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Written:
    """An access entry as it lies in a log. `nonce` is random and its own; `seq`: its place in its lane, once it has one."""

    holder_id: HolderId
    access: Access
    nonce: bytes
    seq: int | None

    @property
    def lane(self) -> int:
        return lane_of(self.holder_id)

    def commitment(self) -> bytes:
        """32 bytes for everything that is said in it, whose it is included; without the nonce nobody can try words out."""
        access = self.access
        words = (_FORM, access.access_id, self.holder_id, access.reason, access.ticket)
        return hashlib.sha256(self.nonce + orjson.dumps(words)).digest()


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. `seq` counts from 1 in its lane; `previous` is the hash of the one before."""

    lane: int
    seq: int
    previous: bytes
    commitment: bytes
    subject: bytes
    at: datetime
    action: str
    by: str
    channel: str
    operator_id: str | None
    hash: bytes

    def hash_at(self, seq: int) -> bytes:
        """The hash that this link would have at some place of its lane, whatever hash it says it has."""
        milliseconds = (self.at - _EPOCH) // _MILLISECOND
        said = (
            *(_FORM, self.lane, seq, milliseconds, self.commitment.hex(), self.subject.hex()),
            *(self.action, self.by, self.channel, self.operator_id),
        )
        return hashlib.sha256(self.previous + orjson.dumps(said)).digest()

    def tells_of(self, written: Written) -> bool:
        """Whether an access entry is the one that this link was made of, unchanged."""
        access = written.access
        said = (access.at, access.action, access.by, access.channel, access.operator_id)
        told = (self.at, self.action, self.by, self.channel, self.operator_id)
        return said == told and written.commitment() == self.commitment


@dataclass(frozen=True, slots=True)
class Head:
    """Where a lane ends: the place and hash of its last link; before the first, place 0."""

    seq: int
    hash: bytes


def beginning(lane: int) -> Head:
    """The head of a lane without a link."""
    return Head(0, hashlib.sha256(orjson.dumps((_FORM, lane))).digest())


@lru_cache(maxsize=4096)
def lane_of(holder_id: HolderId) -> int:
    """The lane of a person."""
    return hashlib.sha256(holder_id.encode()).digest()[0] % LANES


def subject_of(holder_id: HolderId, secret: bytes) -> bytes:
    """What stands for a person in the chain: 32 bytes, which mean nobody when the secret is gone."""
    return hmac.digest(secret, holder_id.encode(), "sha256")


def link(written: Written, head: Head, secret: bytes) -> Link:
    """The link that an access entry becomes behind a head."""
    access = written.access
    bare = Link(
        lane=written.lane,
        seq=head.seq + 1,
        previous=head.hash,
        commitment=written.commitment(),
        subject=subject_of(written.holder_id, secret),
        at=access.at,
        action=access.action,
        by=access.by,
        channel=access.channel,
        operator_id=access.operator_id,
        hash=b"",
    )
    return Link(
        *(bare.lane, bare.seq, bare.previous, bare.commitment, bare.subject, bare.at, bare.action, bare.by, bare.channel),
        *(bare.operator_id, bare.hash_at(bare.seq)),
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far behind the chain is. Ages are in seconds, by the service's clock; None where there is nothing to be old."""

    waiting: int
    oldest_seconds: float | None
    checkpoint_seconds: float | None


class LedgerStore(Protocol):
    """The chain's storage as use cases need it."""

    async def secret(self, holder_id: HolderId) -> bytes:
        """The secret of a person, made when there is none."""

    async def waiting(self) -> tuple[int, datetime | None]:
        """How many access entries are not in the chain yet, and the moment of the oldest."""

    async def last_checkpoint_at(self) -> datetime | None:
        """The moment of the newest checkpoint."""


class Ledger:
    """What others ask of the ledger."""

    def __init__(self, store: LedgerStore, log: AccessLogStore, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._clock = clock

    async def forget(self, holder_id: HolderId, *, by: str, channel: str) -> None:
        """Have everything erased that the logs say of a person; returns when that is sure to happen.

        The erasure is itself an entry: when the chain holds it, the sequencer deletes the person's access entries and the
        secret, in that order, as often as it takes. Asking again changes nothing. `by`, `channel`: who wanted it, as in any
        entry. Whoever asks deletes no access entry themselves: links without words and without an erasure are a fault.
        """
        secret = await self._store.secret(holder_id)
        access_id = derived_id("acc", ERASURE, holder_id, secret.hex())
        await self._log.record(holder_id, Access(access_id, self._clock.now(), ERASURE, by, channel, None))

    async def backlog(self) -> Backlog:
        """How far behind the chain is, for those who watch it."""
        waiting, oldest = await self._store.waiting()
        checkpoint, now = await self._store.last_checkpoint_at(), self._clock.now()
        return Backlog(waiting, _age(oldest, now), _age(checkpoint, now))


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
