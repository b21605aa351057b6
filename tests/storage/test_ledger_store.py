import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import bson
import pytest
from storage.conftest import Raw

from service.checkpoints import Checkpoint
from service.clock import Clock
from service.holders import Access
from service.ids import HolderId, new_id
from service.keyring import Keyring
from service.ledger import LANES, lane_of, subject_of
from service.ledger_checks import Fault, Finding, LedgerChecks
from service.mongo.client import Database
from service.mongo.holders import MongoAccessLogStore
from service.mongo.ledger import MongoLedgerStore
from service.sequencing import Sequencer
from service.tokens import Tokens

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


class _Movable(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def _person(lane: int) -> HolderId:
    """Somebody of a lane."""
    while True:
        holder_id = HolderId(new_id("hld"))
        if lane_of(holder_id) == lane:
            return holder_id


@dataclass
class Place:
    """A ledger with somebody of lane 0 in it, and a bystander in the same lane."""

    store: MongoLedgerStore
    log: MongoAccessLogStore
    sequencer: Sequencer
    tokens: Tokens
    clock: _Movable
    raw: Raw
    person: HolderId
    bystander: HolderId

    async def look(self, holder_id: HolderId, **changes: Any) -> Access:
        access = Access(new_id("acc"), self.clock.now(), "lookUp", "bureauClerk", "bureau", "enquiry", None, "T-1")
        access = replace(access, **changes)
        await self.log.record(holder_id, access)
        # The chain is in order of time, and a test knows its order.
        self.clock.at += timedelta(milliseconds=1)
        return access

    async def filled(self, number: int) -> None:
        """So many links in lane 0, and a checkpoint."""
        for count in range(number):
            await self.look(self.bystander if count % 2 else self.person)
        assert await self.sequencer.leads()
        await self.sequencer.turn()

    async def found(self, exported: tuple[Checkpoint, ...] = ()) -> tuple[Finding, ...]:
        return (await LedgerChecks(self.store, self.tokens.read_checkpoint).check(exported, lambda *_: None)).findings

    def link(self, seq: int, lane: int = 0) -> dict[str, Any]:
        found = self.raw.ledger.find_one({"lane": lane, "seq": seq})
        assert found is not None
        return found


COLLECTIONS = ("accesses", "ledger", "ledger_subjects", "ledger_checkpoints", "ledger_state")


@pytest.fixture
async def place(own: Database, raw: Raw, ring: Keyring) -> AsyncIterator[Place]:
    for name in COLLECTIONS:
        raw[name].delete_many({})
    clock, store = _Movable(), MongoLedgerStore(own)
    tokens = Tokens(lambda: ring, "https://yika.example", "yika")
    sequencer = Sequencer(store, tokens.sign_checkpoint, clock)
    made = Place(store, MongoAccessLogStore(own), sequencer, tokens, clock, raw, _person(0), _person(0))
    yield made
    for name in COLLECTIONS:
        raw[name].delete_many({})


async def test_entries_become_links_that_follow_one_another(place: Place) -> None:
    await place.filled(5)
    elsewhere = _person(3)
    await place.look(elsewhere)
    assert await place.sequencer.turn()
    links = await place.store.links(0, 1, 100, 100)
    assert [one.seq for one in links] == [1, 2, 3, 4, 5]
    assert all(later.previous == earlier.hash for earlier, later in pairwise(links))
    assert {one.subject for one in links} == {
        subject_of(whose, await place.store.secret(whose)) for whose in (place.person, place.bystander)
    }
    assert (await place.store.heads(range(LANES)))[3].seq == 1
    assert await place.found() == ()
    assert not await place.sequencer.turn()


async def test_a_link_holds_no_person_and_no_word(place: Place) -> None:
    await place.look(place.person, reason="a word", ticket="T-4711")
    await place.filled(1)
    (holding,) = [bson.encode(one) for one in place.raw.ledger.find({"seq": 1})]
    for secret in (place.person, "a word", "T-4711", "acc_"):
        assert secret.encode() not in holding
    (kept,) = place.raw.accesses.find({"chained.seq": 1})
    assert kept["reason"] == "a word"
    assert len(kept["nonce"]) == 16


async def test_the_same_words_are_committed_to_differently(place: Place) -> None:
    await place.look(place.person)
    first = (await place.store.unchained(1))[0]
    assert replace(first, nonce=b"n" * 16).commitment() != first.commitment()
    assert replace(first, holder_id=place.bystander).commitment() != first.commitment()


Break = Callable[[Place], None]


def _without_indexes(place: Place) -> None:
    place.raw.ledger.drop_index("place")
    place.raw.ledger.drop_index("previous")


def _edit(place: Place) -> None:
    place.raw.ledger.update_one({"lane": 0, "seq": 4}, {"$set": {"action": "reveal"}})


def _edit_time(place: Place) -> None:
    place.raw.ledger.update_one({"lane": 0, "seq": 4}, {"$set": {"at": NOW + timedelta(days=1)}})


def _edit_whole(place: Place) -> None:
    """As `_edit`, by somebody who can make the hash too."""
    document = place.link(4)
    document["action"] = "reveal"
    _rehash(document)
    place.raw.ledger.replace_one({"_id": document["_id"]}, document)


def _rehash(document: dict[str, Any]) -> None:
    from service.mongo.ledger import _link  # noqa: PLC0415  whoever breaks in knows the code

    document["hash"] = _link(document).hash_at(document["seq"])


def _rewrite(place: Place) -> None:
    """An edit, and everything behind it made to fit."""
    previous = place.link(3)["hash"]
    for seq in range(4, 9):
        document = place.link(seq)
        document |= {"previous": previous} | ({"by": "somebody"} if seq == 4 else {})
        _rehash(document)
        previous = document["hash"]
        place.raw.ledger.replace_one({"_id": document["_id"]}, document)


def _rewrite_with_words(place: Place) -> None:
    _rewrite(place)
    place.raw.accesses.update_one({"chained.lane": 0, "chained.seq": 4}, {"$set": {"by": "somebody"}})


def _delete(place: Place) -> None:
    place.raw.ledger.delete_one({"lane": 0, "seq": 4})


def _delete_first(place: Place) -> None:
    place.raw.ledger.delete_many({"lane": 0, "seq": {"$lte": 2}})


def _delete_and_close_up(place: Place) -> None:
    place.raw.ledger.delete_one({"lane": 0, "seq": 4})
    for seq in range(5, 9):
        place.raw.ledger.update_one({"lane": 0, "seq": seq}, {"$set": {"seq": seq - 1}})


def _forged(place: Place, behind: int, seq: int) -> dict[str, Any]:
    before = place.link(behind)
    forged = {**before, "_id": secrets.token_bytes(32), "seq": seq, "previous": before["hash"]}
    _rehash(forged)
    return forged


def _insert_shifting(place: Place) -> None:
    _without_indexes(place)
    for seq in range(8, 3, -1):
        place.raw.ledger.update_one({"lane": 0, "seq": seq}, {"$set": {"seq": seq + 1}})
    place.raw.ledger.insert_one(_forged(place, 3, 4))


def _insert_beside(place: Place) -> None:
    _without_indexes(place)
    place.raw.ledger.insert_one(_forged(place, 3, 4))


def _append(place: Place) -> None:
    place.raw.ledger.insert_one(_forged(place, 8, 9))


def _swap(place: Place) -> None:
    for seq, other in ((4, 900), (5, 4), (900, 5)):
        place.raw.ledger.update_one({"lane": 0, "seq": seq}, {"$set": {"seq": other}})


def _move(place: Place) -> None:
    place.raw.ledger.update_one({"lane": 0, "seq": 2}, {"$set": {"seq": 900}})
    for seq in range(3, 8):
        place.raw.ledger.update_one({"lane": 0, "seq": seq}, {"$set": {"seq": seq - 1}})
    place.raw.ledger.update_one({"lane": 0, "seq": 900}, {"$set": {"seq": 7}})


def _cut(place: Place) -> None:
    place.raw.ledger.delete_many({"lane": 0, "seq": {"$gte": 7}})


def _cut_with_words(place: Place) -> None:
    _cut(place)
    place.raw.accesses.delete_many({"chained.lane": 0, "chained.seq": {"$gte": 7}})


def _cut_all(place: Place) -> None:
    place.raw.ledger.delete_many({})
    place.raw.accesses.delete_many({})


def _change_words(place: Place) -> None:
    place.raw.accesses.update_one({"chained.lane": 0, "chained.seq": 6}, {"$set": {"reason": "visit"}})


def _change_who(place: Place) -> None:
    place.raw.accesses.update_one({"chained.lane": 0, "chained.seq": 6}, {"$set": {"by": "hospitalClerk"}})


def _change_whose(place: Place) -> None:
    """The entry is shown to somebody else, and its own holder sees it no more."""
    place.raw.accesses.update_one({"chained.lane": 0, "chained.seq": 5}, {"$set": {"holderId": place.bystander}})


def _lose_words(place: Place) -> None:
    place.raw.accesses.delete_one({"chained.lane": 0, "chained.seq": 6})


def _forge_checkpoint(place: Place) -> None:
    (one,) = place.raw.ledger_checkpoints.find()
    head, claims, signature = one["signed"].split(".")
    place.raw.ledger_checkpoints.update_one({"_id": 1}, {"$set": {"signed": f"{head}.{claims[:-2]}AA.{signature}"}})


def _renumber_checkpoint(place: Place) -> None:
    (one,) = place.raw.ledger_checkpoints.find()
    place.raw.ledger_checkpoints.delete_one({"_id": 1})
    place.raw.ledger_checkpoints.insert_one({**one, "_id": 2})


BREAKS: Mapping[Break, Finding] = {
    _edit: Finding(Fault.EDITED, 0, 4),
    _edit_time: Finding(Fault.EDITED, 0, 4),
    _edit_whole: Finding(Fault.EDITED, 0, 4),
    _rewrite: Finding(Fault.REWRITTEN, 0, 1),
    _rewrite_with_words: Finding(Fault.REWRITTEN, 0, 1),
    _delete: Finding(Fault.DELETED, 0, 4),
    _delete_first: Finding(Fault.DELETED, 0, 1),
    _delete_and_close_up: Finding(Fault.REORDERED, 0, 4),
    _insert_shifting: Finding(Fault.INSERTED, 0, 4),
    _insert_beside: Finding(Fault.INSERTED, 0, 4),
    _append: Finding(Fault.WORDS_MISSING, 0, 9),
    _swap: Finding(Fault.REORDERED, 0, 4),
    _move: Finding(Fault.REORDERED, 0, 2),
    _cut: Finding(Fault.TAIL_CUT, 0, 7),
    _cut_with_words: Finding(Fault.TAIL_CUT, 0, 7),
    _cut_all: Finding(Fault.TAIL_CUT, 0, 1),
    _change_words: Finding(Fault.WORDS_CHANGED, 0, 6),
    _change_who: Finding(Fault.WORDS_CHANGED, 0, 6),
    _change_whose: Finding(Fault.WORDS_CHANGED, 0, 5),
    _lose_words: Finding(Fault.WORDS_MISSING, 0, 6),
    _forge_checkpoint: Finding(Fault.CHECKPOINT_FORGED, None, 1),
    _renumber_checkpoint: Finding(Fault.CHECKPOINT_MISSING, None, 1),
}


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda breaks: breaks.__name__.strip("_"))
async def test_whatever_is_done_to_it_is_found_where_it_was_done(place: Place, breaks: Break) -> None:
    await place.filled(8)
    assert place.raw.ledger_checkpoints.count_documents({}) == 1
    assert await place.found() == ()
    try:
        breaks(place)
        (finding,) = await place.found()
        assert finding == BREAKS[breaks]
    finally:
        place.raw.ledger.delete_many({})
        for name, keys in (("place", ["lane", "seq"]), ("previous", ["lane", "previous"])):
            place.raw.ledger.create_index([(key, 1) for key in keys], name=name, unique=True)
