import asyncio
import os
import random
import re
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from faults.workers import ROOT
from pymongo.errors import OperationFailure
from storage.conftest import Empty
from storage.test_ledger_store import COLLECTIONS, Place, _Movable, _person, place

from service.checkpoints import Checkpoint, statement_of
from service.config import Config
from service.holders import Access
from service.ids import HolderId, new_id
from service.keyring import Keyring, save_keyring
from service.ledger import ERASURE, LANES, Backlog, Ledger, lane_of, link
from service.ledger_checks import Fault, Finding
from service.mongo.client import Database
from service.mongo.holders import MongoAccessLogStore
from service.mongo.ledger import MongoLedgerStore
from service.mongo.migrations import migrate
from service.sequencing import CHECKPOINT_AFTER, Sequencer
from service.tokens import Tokens

__all__ = ["place"]

# `make soak` turns this up.
ROUNDS = int(os.environ.get("YIKA_SOAK_ROUNDS", "4"))


def _another(place: Place, database: Database) -> Sequencer:
    """As another process has it."""
    return Sequencer(MongoLedgerStore(database), place.tokens.sign_checkpoint, place.clock)


async def _looks(place: Place, number: int) -> list[HolderId]:
    """So many entries about as many people."""
    people = [HolderId(new_id("hld")) for _ in range(number)]
    at = place.clock.now()
    await asyncio.gather(
        *(
            place.log.record(holder_id, Access(new_id("acc"), at, "lookUp", "bureauClerk", "bureau", None))
            for holder_id in people
        )
    )
    return people


def _once(place: Place) -> None:
    """Every entry is one link, at the place that it says."""
    at = {(one["lane"], one["seq"]): one["_id"] for one in place.raw.ledger.find()}
    said = Counter((one["chained"]["lane"], one["chained"]["seq"]) for one in place.raw.accesses.find())
    assert set(said.values()) == {1}
    assert at.keys() == said.keys()


async def test_a_person_is_always_in_the_same_lane_and_people_are_in_all(place: Place) -> None:
    await _looks(place, 200)
    assert await place.sequencer.turn()
    assert {one["lane"] for one in place.raw.ledger.find()} == set(range(LANES))
    assert all(lane_of(one["holderId"]) == one["chained"]["lane"] for one in place.raw.accesses.find())
    _once(place)


@pytest.mark.parametrize("appended", [3, 5])
async def test_what_was_appended_and_not_marked_is_marked_and_not_appended_again(place: Place, appended: int) -> None:
    for _ in range(5):
        await place.look(place.person)
    waiting = await place.store.unchained(10)
    secret = await place.store.secret(place.person)
    head = (await place.store.heads([0]))[0]
    links = []
    for written in waiting[:appended]:
        links.append(link(written, head, secret))
        head = type(head)(links[-1].seq, links[-1].hash)
    # Here the process was killed.
    assert await place.store.append(links)
    assert await place.found() == ()
    await place.sequencer.turn()
    assert place.raw.ledger.count_documents({}) == 5
    _once(place)
    assert await place.found() == ()


async def test_whoever_is_late_appends_nothing(place: Place) -> None:
    for _ in range(3):
        await place.look(place.person)
    waiting, head = await place.store.unchained(10), (await place.store.heads([0]))[0]
    secret = await place.store.secret(place.person)
    late = [link(waiting[2], head, secret)]
    late.append(link(waiting[1], type(head)(1, late[0].hash), secret))
    await place.filled(0)
    before = list(place.raw.ledger.find().sort("seq"))
    assert not await place.store.append(late)
    assert list(place.raw.ledger.find().sort("seq")) == before
    assert await place.found() == ()


async def test_two_sequencers_at_once_make_one_chain(place: Place, second: Database) -> None:
    others = [place.sequencer, _another(place, second), _another(place, second)]
    for _ in range(10):
        await _looks(place, 60)
        # None of them asks for the lease: as if each believed that it leads.
        await asyncio.gather(*(one.turn() for one in others))
    while await place.store.unchained(1):
        await asyncio.gather(*(one.turn() for one in others))
    assert place.raw.ledger.count_documents({}) == 600
    _once(place)
    assert await place.found() == ()


async def test_one_leads_and_the_next_when_it_is_silent_or_has_left(
    place: Place, second: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.sequencing.LEASE_SECONDS", 0.3)
    other = _another(place, second)
    assert await place.sequencer.leads()
    assert not await other.leads()
    for _ in range(5):
        # Alive, it counts up, and that is all that counts.
        await asyncio.sleep(0.1)
        assert await place.sequencer.leads()
        assert not await other.leads()
    await asyncio.sleep(0.4)
    assert await other.leads()
    assert not await place.sequencer.leads()
    working = asyncio.get_running_loop().create_task(other.run())
    await asyncio.sleep(0.1)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert await place.sequencer.leads()
    assert place.raw.ledger_state.find_one({})["fence"] == 3  # type: ignore[index]  # it is there


async def test_clocks_that_differ_move_no_lease(place: Place, second: Database) -> None:
    assert await place.sequencer.leads()
    for difference in (timedelta(days=400), timedelta(days=-400)):
        clock = _Movable()
        clock.at += difference
        other = Sequencer(MongoLedgerStore(second), place.tokens.sign_checkpoint, clock)
        assert not await other.leads()
        assert not await other.leads()
    assert await place.sequencer.leads()


async def test_entries_of_a_version_that_drew_no_nonce_get_one_and_keep_it(place: Place) -> None:
    access = await place.look(place.person)
    place.raw.accesses.update_one({"_id": access.access_id}, {"$unset": {"nonce": ""}})
    (first,), (again,) = await place.store.unchained(5), await place.store.unchained(5)
    assert len(first.nonce) == 16
    assert again == first
    await place.sequencer.turn()
    assert await place.found() == ()


# Checkpoints


async def _checkpointed(place: Place, rounds: int) -> list[Checkpoint]:
    for _ in range(rounds):
        await place.look(place.person)
        await place.sequencer.turn()
        place.clock.at += CHECKPOINT_AFTER
    await place.sequencer.turn()
    return await place.store.checkpoints(0, 100)


async def test_a_checkpoint_is_made_after_so_long_when_there_is_something_new(place: Place) -> None:
    made = await _checkpointed(place, 3)
    assert [one.links for one in made] == [1, 2, 3]
    place.clock.at += 10 * CHECKPOINT_AFTER
    await place.sequencer.turn()
    assert len(await place.store.checkpoints(0, 100)) == 3
    assert len(await place.store.checkpoints(2, 100)) == 1


async def test_a_checkpoint_is_made_after_so_many_links(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.sequencing.CHECKPOINT_LINKS", 5)
    await place.filled(1)
    await place.filled(4)
    assert len(await place.store.checkpoints(0, 10)) == 1
    await place.filled(1)
    assert [one.links for one in await place.store.checkpoints(0, 10)] == [1, 6]


async def test_anybody_can_check_a_checkpoint_with_the_published_keys_also_after_they_were_changed(
    place: Place, ring: Keyring
) -> None:
    (old,) = await _checkpointed(place, 1)
    now = old.at.timestamp() + 1e9
    changed = ring.rotate_signing(now, 0).retire(ring.signing_keys[0].kid, now + 1)
    published = jwt.PyJWKSet.from_dict(changed.jwks())
    key = published[jwt.get_unverified_header(old.signed)["kid"]]
    claims = jwt.decode(old.signed, key.key, algorithms=["ES256"], options={"verify_aud": False, "verify_iat": False})
    assert claims["heads"][0][:2] == [0, 1]
    assert claims["heads"][0][2] == place.link(1)["hash"].hex()
    assert statement_of(old.signed, Tokens(lambda: changed, "https://yika.example", "yika").read_checkpoint) is not None
    # One that was revoked is believed in nothing.
    none = changed.rotate_signing(now, 0).revoke(ring.signing_keys[0].kid, now + 2)
    assert statement_of(old.signed, Tokens(lambda: none, "https://yika.example", "yika").read_checkpoint) is None


async def test_a_tail_that_was_cut_with_its_checkpoints_is_found_from_exported_ones(place: Place) -> None:
    exported = tuple(await _checkpointed(place, 4))
    place.raw.ledger.delete_many({"seq": {"$gt": 2}})
    place.raw.accesses.delete_many({"chained.seq": {"$gt": 2}})
    place.raw.ledger_checkpoints.delete_many({"_id": {"$gt": 2}})
    assert await place.found() == ()
    assert await place.found(exported) == (
        Finding(Fault.CHECKPOINT_MISSING, None, 3),
        Finding(Fault.TAIL_CUT, 0, 3),
    )
    assert await place.found(exported[:2]) == ()


async def test_a_ledger_that_was_begun_anew_is_found_from_exported_checkpoints(place: Place) -> None:
    exported = tuple(await _checkpointed(place, 3))
    for name in COLLECTIONS:
        place.raw[name].delete_many({})
    await place.filled(5)
    assert await place.found() == ()
    assert Finding(Fault.REWRITTEN, 0, 1) in await place.found(exported)


async def test_a_checkpoint_of_another_order_or_another_is_none(place: Place) -> None:
    made = await _checkpointed(place, 3)
    place.raw.ledger_checkpoints.update_one({"_id": 2}, {"$set": {"signed": made[2].signed}})
    assert await place.found() == (Finding(Fault.CHECKPOINT_FORGED, None, 2),)
    forged = Checkpoint(2, made[1].at, place.tokens.sign_receipt({"iat": 0, "form": 1, "number": 2}), 2)
    assert await place.found((forged,)) == (Finding(Fault.CHECKPOINT_FORGED, None, 2),)


# Erasure


async def test_an_erasure_leaves_the_chain_whole_and_nothing_of_the_person(place: Place) -> None:
    ledger = Ledger(place.store, place.log, place.clock)
    await place.filled(6)
    bystanders = list(place.raw.accesses.find({"holderId": place.bystander}).sort("_id"))
    await place.look(place.person)
    await ledger.forget(place.person, by="self", channel="app")
    await ledger.forget(place.person, by="self", channel="app")
    await place.sequencer.turn()
    assert place.raw.accesses.count_documents({"holderId": place.person}) == 0
    assert place.raw.ledger_subjects.count_documents({"_id": place.person}) == 0
    assert place.raw.ledger.count_documents({"action": ERASURE}) == 1
    assert place.raw.ledger.count_documents({}) == 8
    assert list(place.raw.accesses.find({"holderId": place.bystander}).sort("_id")) == bystanders
    assert await place.found() == ()
    # Somebody else's words go missing still, and so do later ones of this person, who is another subject now.
    await place.look(place.person)
    await place.sequencer.turn()
    assert await place.found() == ()
    place.raw.accesses.delete_many({"holderId": place.person})
    assert await place.found() == (Finding(Fault.WORDS_MISSING, 0, 9),)


async def test_an_erasure_that_was_cut_off_goes_on(place: Place, second: Database) -> None:
    ledger = Ledger(place.store, place.log, place.clock)
    await place.filled(4)
    await ledger.forget(place.person, by="self", channel="app")
    (waiting,) = await place.store.unchained(5)
    secret = await place.store.secret(place.person)
    await place.store.append([link(waiting, (await place.store.heads([0]))[0], secret)])
    # Here the process was killed; then another is, between two deletions.
    place.raw.accesses.delete_one({"holderId": place.person, "chained.seq": 1})
    await _another(place, second).turn()
    assert place.raw.accesses.count_documents({"holderId": place.person}) == 0
    assert place.raw.ledger_subjects.count_documents({"_id": place.person}) == 0
    assert await place.found() == ()


async def test_words_that_go_before_the_chain_holds_the_erasure_are_a_fault(place: Place) -> None:
    await place.filled(4)
    place.raw.accesses.delete_many({"holderId": place.person})
    assert await place.found() == (Finding(Fault.WORDS_MISSING, 0, 1),)


# How far behind


async def test_the_backlog_says_how_many_wait_how_long_and_how_old_the_last_checkpoint_is(place: Place) -> None:
    ledger = Ledger(place.store, place.log, place.clock)
    assert await ledger.backlog() == Backlog(0, None, None)
    await place.filled(2)
    await place.look(place.person)
    place.clock.at += timedelta(seconds=7) - timedelta(milliseconds=1)
    assert await ledger.backlog() == Backlog(1, 7.0, 7.0)


async def test_no_question_of_the_ledger_looks_through_a_whole_collection(empty: Empty, ring: Keyring) -> None:
    database, raw = await empty()
    await migrate(database, print)
    clock, store, log = _Movable(), MongoLedgerStore(database), MongoAccessLogStore(database)
    tokens = Tokens(lambda: ring, "https://yika.example", "yika")
    made = Place(store, log, Sequencer(store, tokens.sign_checkpoint, clock), tokens, clock, raw, _person(0), _person(0))
    await made.filled(30)
    try:
        raw.command("profile", 2)
    except OperationFailure:
        pytest.skip("this server keeps no profile of its queries")
    await made.look(made.person)
    ledger = Ledger(store, log, clock)
    assert (await ledger.backlog()).waiting == 1
    assert await made.sequencer.leads()
    assert await made.sequencer.turn()
    await ledger.forget(made.person, by="self", channel="app")
    assert await made.sequencer.turn()
    assert await made.found() == ()
    raw.command("profile", 0)
    plans = {
        (entry["ns"].rpartition(".")[2], entry["planSummary"].split()[0])
        for entry in raw["system.profile"].find({"planSummary": {"$exists": True}, "ns": {"$not": re.compile("profile")}})
    }
    if not plans:
        pytest.skip("this server keeps no profile of its queries")
    assert {how for _, how in plans} <= {"IXSCAN", "IDHACK", "COUNT_SCAN"}
    assert {collection for collection, _ in plans} == set(COLLECTIONS)


# A process that is killed

# Forks a sequencer for each line that it reads, once the one before is gone: only the first has to import anything.
_NURSERY = """
import asyncio, os, sys
from pathlib import Path
import service.sequencing as sequencing
from service.clock import Clock
from service.keyring import load_keyring
from service.mongo.client import Database
from service.mongo.holders import MongoAccessLogStore
from service.mongo.ledger import MongoLedgerStore
from service.mongo.migrations import migrate
from service.tokens import Tokens

sequencing.LEASE_SECONDS, sequencing.POLL_SECONDS, sequencing.BATCH = 0.05, 0.002, 10
uri, name, keyring = sys.argv[1:]
ring = load_keyring(Path(keyring))

async def main():
    tokens = Tokens(lambda: ring, "https://yika.example", "yika")
    async with Database(uri, name, deadline_seconds=10, pool=8) as database:
        await sequencing.Sequencer(MongoLedgerStore(database), tokens.sign_checkpoint, Clock()).run()

for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        asyncio.run(main())
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


async def test_killed_at_any_moment_it_repeats_nothing_and_loses_nothing(place: Place, config: Config, tmp_path: Path) -> None:
    save_keyring(tmp_path / "keyring.json", place.tokens._ring())  # noqa: SLF001  the same keys
    chance = random.Random(20261123)

    async def killed(times: int) -> int:
        """How many were killed while they were putting entries into the chain, or about to."""
        nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _NURSERY, config.mongodb_uri.get_secret_value(), f"{config.mongodb_database}_stores"),
            str(tmp_path / "keyring.json"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for number in range(times):
            nursery.stdin.write(b"one\n")
            child = int(await nursery.stdout.readline())
            await asyncio.sleep(0.1 + chance.random() * 0.3)
            os.kill(child, signal.SIGKILL)
            assert await nursery.stdout.readline() == b"gone\n", number
        nursery.stdin.close()
        await nursery.wait()
        return times

    async def fill() -> None:
        while True:
            await _looks(place, 10)
            await asyncio.sleep(0.03)

    filling = asyncio.get_running_loop().create_task(fill())
    victims = await asyncio.gather(killed(5 * ROUNDS), killed(5 * ROUNDS))
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    assert sum(victims) == 10 * ROUNDS
    assert place.raw.ledger.count_documents({}) > sum(victims)
    assert await place.found() == ()
    while await place.store.unchained(1):
        await place.sequencer.turn()
    assert place.raw.ledger.count_documents({}) == place.raw.accesses.count_documents({})
    _once(place)
    assert await place.found() == ()
