import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from storage.conftest import Raw, activate

from bench.bare import prepared
from service.cards import (
    Activation,
    Bank,
    BankStatus,
    Card,
    Happened,
    MedicalStatus,
    Pin,
    PinState,
    Stage,
    Status,
)
from service.ids import ActivationId, CardId, HolderId, derived_id, new_id
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database, Duplicate
from service.regions import SHIPPED, Regions
from service.sandbox.personas import cast, people
from service.sandbox.records import CardRecord, card_records
from service.vault import Vault, VaultError

BYSTANDERS = ("sealed2", "formally-lost", "sealed3")
# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
REGIONS = Regions.load_directory(SHIPPED)
RECORDS = {person.key: card_records(person, REGIONS, NOW) for person in people(cast(REGIONS))}


def _activation(card: Card, **changes: Any) -> Activation:
    made = Activation(ActivationId(new_id("act")), NOW, "app", card.holder_id, b"r" * 32)
    return replace(made, **changes)


async def _put(store: MongoCardStore, record: CardRecord) -> Card:
    await store.put(record.card, record.id_number, record.figures, record.history)
    return record.card


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoCardStore]:
    """A store with somebody else's cards in it, which no test may change: one sealed, one with a past, one to carry."""
    made = MongoCardStore(own, vault)
    for key in BYSTANDERS:
        await _put(made, RECORDS[key][0])
    outbox = [{"id": "bystander:1", "at": NOW, "happening": "activated", "tell": "hld_bystander", "locale": "en"}]
    raw.cards.update_one({"_id": RECORDS["sealed3"][0].card.card_id}, {"$set": {"outbox": outbox}})
    bystanders = {"_id": {"$in": [RECORDS[key][0].card.card_id for key in BYSTANDERS]}}
    before = list(raw.cards.find(bystanders).sort("_id"))
    yield made
    assert list(raw.cards.find(bystanders).sort("_id")) == before
    raw.cards.delete_many({})


@pytest.fixture
async def card(store: MongoCardStore) -> Card:
    return await _put(store, RECORDS["sealed"][0])


async def test_a_card_comes_back_as_it_was_put(store: MongoCardStore) -> None:
    for records in (records for key, records in RECORDS.items() if key not in BYSTANDERS):
        for record in records:
            await _put(store, record)
            whose = (record.card.card_id, record.card.holder_id)
            assert await store.card(*whose) == record.card
            balance = await store.balance(*whose)
            assert balance is not None
            assert (balance.card_id, balance.region_code) == (record.card.card_id, record.card.region_code)
            assert (balance.generation, balance.stored_status) == (record.card.generation, record.card.stored_status)
            assert (balance.stored_medical, balance.figures) == (record.card.stored_medical, record.figures)
            entries = await store.history(*whose)
            assert entries is not None
            assert tuple(reversed(entries)) == record.history
            owned = await store.by_number(record.card.region_code, record.card.number)
            assert owned is not None
            assert (owned.card, owned.id_number) == (record.card, record.id_number)


async def test_a_card_that_is_not_there_is_nothing(store: MongoCardStore, card: Card) -> None:
    nobody = CardId(new_id("card"))
    assert await store.card(nobody, card.holder_id) is None
    assert await store.balance(nobody, card.holder_id) is None
    assert await store.history(nobody, card.holder_id) is None
    assert await store.by_activation(ActivationId(new_id("act"))) is None
    assert await store.by_number(card.region_code, "000000000") is None


async def test_a_number_counts_in_its_region_only(store: MongoCardStore, card: Card) -> None:
    elsewhere = replace(card, card_id=CardId(new_id("card")), region_code="990200")
    assert await store.by_number("990200", card.number) is None
    await store.put(elsewhere, "id", (), ())
    for region, mine in (("990100", card), ("990200", elsewhere)):
        owned = await store.by_number(region, card.number)
        assert owned is not None
        assert owned.card == mine
    with pytest.raises(Duplicate):
        await store.put(replace(card, card_id=CardId(new_id("card"))), "id", (), ())


async def test_somebody_elses_card_is_nothing(store: MongoCardStore) -> None:
    record = RECORDS["active"][0]
    await _put(store, record)
    for look_up in (store.card, store.balance, store.history):
        card_id, somebody_else = record.card.card_id, RECORDS["sealed2"][0].card.holder_id
        mine, theirs = await asyncio.gather(look_up(card_id, record.card.holder_id), look_up(card_id, somebody_else))
        assert mine
        assert theirs is None


async def test_cards_of_a_holder_are_paged_in_order(store: MongoCardStore, card: Card) -> None:
    more = [replace(card, card_id=CardId(new_id("card")), number=f"A0000000{n}") for n in range(4)]
    for one in more:
        await store.put(one, "id", (), ())
    ids = sorted(one.card_id for one in (card, *more))
    first = await store.cards_of(card.holder_id, None, 3)
    assert [one.card_id for one in first] == ids[:3]
    assert [one.card_id for one in await store.cards_of(card.holder_id, first[-1].card_id, 3)] == ids[3:]


async def test_an_activation_is_one_write_with_its_history_and_what_is_to_be_told(
    store: MongoCardStore, card: Card, raw: Raw
) -> None:
    activation = _activation(card)
    changed = await activate(store, card, activation, "en")
    assert changed == replace(card, stored_status=Status.ACTIVE, activation=activation, version=card.version + 1)
    assert await store.card(card.card_id, card.holder_id) == changed
    assert await store.by_activation(activation.activation_id) == changed
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    (entry,), (waiting,) = document["history"], document["outbox"]
    assert entry["id"] == waiting["id"] == f"{card.card_id}:1"
    assert (entry["from"], entry["to"], entry["channel"], entry["by"]) == ("sealed", "active", "app", card.holder_id)
    assert (waiting["tell"], waiting["locale"]) == (card.holder_id, "en")


@pytest.mark.parametrize(
    "change",
    [{"version": 1}, {"version": 7}, {"stored_status": Status.LOCKED}, {"stored_status": Status.ACTIVE}],
    ids=["a version ahead", "versions ahead", "another status", "already active"],
)
async def test_a_card_that_is_not_as_it_was_read_is_not_changed(
    store: MongoCardStore, card: Card, raw: Raw, change: dict[str, Any]
) -> None:
    before = raw.cards.find_one({"_id": card.card_id})
    assert await activate(store, replace(card, **change), _activation(card), "en") is None
    assert raw.cards.find_one({"_id": card.card_id}) == before


async def test_a_card_that_moved_on_since_it_was_read_is_not_changed(store: MongoCardStore, card: Card, raw: Raw) -> None:
    raw.cards.update_one({"_id": card.card_id}, {"$inc": {"version": 1}})
    before = raw.cards.find_one({"_id": card.card_id})
    assert await activate(store, card, _activation(card), "en") is None
    assert raw.cards.find_one({"_id": card.card_id}) == before


async def test_a_hundred_activations_over_two_connections_are_one(
    store: MongoCardStore, second: Database, vault: Vault, card: Card, raw: Raw
) -> None:
    other = MongoCardStore(second, vault)
    changed = await asyncio.gather(*(activate((store, other)[n % 2], card, _activation(card), "en") for n in range(100)))
    (winner,) = [one for one in changed if one is not None]
    assert winner.activation is not None
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert (document["version"], document["activation"]["id"]) == (1, winner.activation.activation_id)
    assert (len(document["history"]), len(document["outbox"])) == (1, 1)


async def test_without_its_guard_the_same_race_happens_twice(store: MongoCardStore, card: Card, raw: Raw) -> None:
    """Two who read the card sealed both write. With the guard one is told so; without it both believe they activated it."""
    read = [await store.card(card.card_id, card.holder_id) for _ in range(2)]
    assert read == [card, card]
    written = raw.cards.find_one({"_id": card.card_id})
    guarded = [await activate(store, one, _activation(card), "en") for one in read if one is not None]
    assert [one is not None for one in guarded] == [True, False]
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert written is not None
    update = {
        "$set": {name: document[name] for name in ("status", "activation")},
        "$inc": {"version": 1},
        "$push": {"history": document["history"][0], "outbox": document["outbox"][0]},
    }
    raw.cards.replace_one({"_id": card.card_id}, written)
    for _ in read:
        raw.cards.update_one({"_id": card.card_id}, update)
    twice = raw.cards.find_one({"_id": card.card_id})
    assert twice is not None
    assert (twice["version"], len(twice["history"]), len(twice["outbox"])) == (2, 2, 2)


async def test_an_activation_id_belongs_to_one_card(store: MongoCardStore, card: Card) -> None:
    activation = _activation(card)
    assert await activate(store, card, activation, "en") is not None
    other = RECORDS["hk-resident"][0]
    await _put(store, other)
    with pytest.raises(Duplicate):
        await activate(store, other.card, activation, "en")
    assert await store.card(other.card.card_id, other.card.holder_id) == other.card


async def test_what_waits_to_be_told_is_taken_off_once_and_alone(store: MongoCardStore, card: Card, raw: Raw) -> None:
    await activate(store, card, _activation(card, guardian=HolderId("hld_guardian")), "en")
    happenings = {happening.happening_id: happening for happening in await store.uncarried(10)}
    assert set(happenings) == {"bystander:1", f"{card.card_id}:1"}
    mine = happenings[f"{card.card_id}:1"]
    assert (mine.card_id, mine.name, mine.at, mine.tell, mine.locale) == (card.card_id, "activated", NOW, "hld_guardian", "en")
    raw.cards.update_one({"_id": card.card_id}, {"$push": {"outbox": {**_item(mine.at), "id": "later"}}})
    for _ in range(2):
        await store.carried([mine])
        document = raw.cards.find_one({"_id": card.card_id})
        assert document is not None
        assert [item["id"] for item in document["outbox"]] == ["later"]
        assert (document["version"], len(document["history"])) == (1, 1)
    assert await store.waiting()
    raw.cards.update_one({"_id": card.card_id}, {"$set": {"outbox": []}})
    assert [happening.happening_id for happening in await store.uncarried(10)] == ["bystander:1"]


async def test_what_was_told_of_several_cards_is_taken_off_each(store: MongoCardStore, card: Card, raw: Raw) -> None:
    await activate(store, card, _activation(card))
    bystander = raw.cards.find_one({"_id": {"$ne": card.card_id}, "outbox.id": {"$exists": True}})
    assert bystander is not None
    happenings = await store.uncarried(10)
    assert {happening.card_id for happening in happenings} == {card.card_id, bystander["_id"]}
    await store.carried(happenings)
    left = await store.uncarried(10)
    raw.cards.replace_one({"_id": bystander["_id"]}, bystander)
    assert left == []


def _item(at: datetime) -> dict[str, Any]:
    return {"at": at + timedelta(seconds=1), "happening": "activated", "tell": "hld_x", "locale": "en"}


async def test_a_card_lies_there_without_a_number_or_a_name(store: MongoCardStore, card: Card, raw: Raw) -> None:
    del store
    record = RECORDS["sealed"][0]
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    whole = bson.encode(document)
    assert card.card_id.encode() in whole
    secret = (record.id_number, card.number, card.identification_code, card.holder_name, card.bank.account or "")
    assert [one for one in secret if one.encode() in whole] == []


@pytest.mark.parametrize("field", ["number", "identificationCode", "holderName", "idNumber", "bank.account"])
async def test_what_is_sealed_for_one_card_does_not_open_in_another(
    store: MongoCardStore, card: Card, raw: Raw, field: str
) -> None:
    other = RECORDS["cross-region"][0]
    await _put(store, other)
    outer, _, inner = field.partition(".")
    stolen = raw.cards.find_one({"_id": other.card.card_id})
    assert stolen is not None
    value = stolen[outer][inner] if inner else stolen[outer]
    raw.cards.update_one({"_id": card.card_id}, {"$set": {field: value}})
    with pytest.raises(VaultError):
        await store.by_number(card.region_code, card.number)


# Changes of every kind.


def _happened(name: str = "lossCancelled", request: bytes | None = b"q" * 32, **changes: Any) -> Happened:
    made = Happened(name, NOW, "bureau", "op_x", "found", request, HolderId("hld_told"), "en")
    return replace(made, **changes)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "status": ({"stored_status": Status.LOCKED, "lock_reason": "fraud"}, {"status": "locked", "lockReason": "fraud"}),
    "temporary loss": (
        {"stored_status": Status.TEMPORARILY_LOST, "temporary_loss_until": NOW + timedelta(days=7)},
        {"status": "temporarilyLost", "temporaryLossUntil": NOW + timedelta(days=7)},
    ),
    "medical": ({"stored_medical": MedicalStatus.CLOSED}, {"medical": "closed"}),
    "pin": ({"pin": Pin(PinState.SET, 0, "a hash")}, {"pin": {"state": "set", "wrongTries": 0, "hash": "a hash"}}),
    "production": ({"stage": Stage.RECEIVED_BY_BANK, "test_batch": True}, {"stage": "receivedByBank", "testBatch": True}),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_change_sets_what_differs_and_says_what_happened_in_one_write(
    store: MongoCardStore, card: Card, raw: Raw, kind: str
) -> None:
    changes, fields = CHANGES[kind]
    before = raw.cards.find_one({"_id": card.card_id})
    assert before is not None
    changed = await store.change(card, replace(card, **changes), _happened())
    assert changed == replace(card, **changes, version=card.version + 1)
    assert await store.card(card.card_id, card.holder_id) == changed == await store.card_by_id(card.card_id)
    happening_id = f"{card.card_id}:1"
    entry = {
        "id": happening_id,
        "at": NOW,
        "happening": "lossCancelled",
        "from": "sealed",
        "to": changed.stored_status,
        "channel": "bureau",
        "by": "op_x",
        "reason": "found",
        "request": b"q" * 32,
    }
    waiting = {"id": happening_id, "at": NOW, "happening": "lossCancelled", "tell": "hld_told", "locale": "en"}
    expected = before | fields | {"version": 1, "history": [entry], "outbox": [waiting]}
    assert raw.cards.find_one({"_id": card.card_id}) == expected


async def test_an_account_stays_sealed_for_its_card_when_it_changes(store: MongoCardStore, card: Card, raw: Raw) -> None:
    account = Bank(card.bank.code, "6228480402564890018", BankStatus.ACTIVE)
    changed = await store.change(card, replace(card, bank=account), _happened("bankActivated"))
    assert changed is not None
    assert await store.card(card.card_id, card.holder_id) == changed
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert b"6228480402564890018" not in bson.encode(document)


async def test_who_acted_for_a_minor_and_who_approved_stand_in_the_history(store: MongoCardStore, card: Card, raw: Raw) -> None:
    what = _happened(guardian=HolderId("hld_guardian"), approved_by="op_second", request=None)
    assert await store.change(card, replace(card, stored_status=Status.CANCELLED), what) is not None
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    (entry,) = document["history"]
    assert (entry["guardian"], entry["approvedBy"], entry["request"]) == ("hld_guardian", "op_second", None)


async def test_a_change_of_a_loss_that_ran_out_begins_where_the_card_really_was(
    store: MongoCardStore, card: Card, raw: Raw
) -> None:
    lost = replace(card, stored_status=Status.TEMPORARILY_LOST, temporary_loss_until=NOW - timedelta(days=1))
    await store.put(lost, "id", (), ())
    changed = await store.change(lost, replace(lost.as_of(NOW), stored_status=Status.FORMALLY_LOST), _happened())
    assert changed is not None
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert (document["status"], document["temporaryLossUntil"]) == ("formallyLost", None)
    assert (document["history"][-1]["from"], document["history"][-1]["to"]) == ("active", "formallyLost")


async def test_a_hundred_different_changes_at_once_are_one(store: MongoCardStore, card: Card, raw: Raw) -> None:
    reasons = [f"reason {number}" for number in range(100)]
    locked = replace(card, stored_status=Status.LOCKED)
    wanted = [store.change(card, locked, _happened("locked", bytes([n] * 32), reason=r)) for n, r in enumerate(reasons)]
    changed = await asyncio.gather(*wanted)
    (winner,) = [number for number, one in enumerate(changed) if one is not None]
    document = raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert [entry["reason"] for entry in document["history"]] == [reasons[winner]]
    assert (document["version"], len(document["outbox"])) == (1, 1)
    did = [await store.did(card, bytes([number] * 32)) for number in range(100)]
    assert [number for number, one in enumerate(did) if one] == [winner]


async def test_a_writer_hears_of_a_change_that_was_made_also_when_another_came_after_it(
    store: MongoCardStore, card: Card, raw: Raw
) -> None:
    """What the server says of several writes at once is only how many found their card; then the history is asked."""
    mine, what = replace(card, stored_status=Status.LOCKED), _happened("locked")
    changed = await store.change(card, mine, what)
    assert changed is not None
    assert (
        await store.change(changed, replace(changed, stored_status=Status.CANCELLED), _happened("cancelled", b"z")) is not None
    )
    before = raw.cards.find_one({"_id": card.card_id})
    assert await store.change(card, mine, what) == changed
    assert await store.change(card, mine, replace(what, request=b"somebody else's")) is None
    assert raw.cards.find_one({"_id": card.card_id}) == before


async def test_the_bare_writer_of_the_bench_writes_what_an_activation_writes(
    store: MongoCardStore, card: Card, raw: Raw
) -> None:
    sealed = raw.cards.find_one({"_id": card.card_id})
    assert sealed is not None
    activation_id = ActivationId(derived_id("act", card.card_id, "0"))
    done = _activation(card, activation_id=activation_id, request=bytes(32))
    assert await activate(store, card, done, "zh-CN") is not None
    ours = raw.cards.find_one({"_id": card.card_id})
    raw.cards.replace_one({"_id": card.card_id}, sealed)
    raw.cards.update_one(*prepared(card.card_id, card.holder_id, NOW))
    assert raw.cards.find_one({"_id": card.card_id}) == ours


# Guesses at the PIN.


@pytest.mark.parametrize("wrong_tries", [0, 3])
async def test_of_a_hundred_guesses_at_once_as_many_are_counted_as_are_left(
    store: MongoCardStore, second: Database, vault: Vault, card: Card, wrong_tries: int
) -> None:
    card = replace(card, pin=Pin(PinState.SET, wrong_tries, "a hash"))
    await store.put(card, "id", (), ())
    stores = (store, MongoCardStore(second, vault))
    counted = await asyncio.gather(*(stores[number % 2].count_pin_try(card, 5) for number in range(100)))
    tries = sorted(one.pin.wrong_tries for one in counted if one is not None)
    assert tries == [*range(wrong_tries + 1, 6)]
    assert all(one == replace(card, pin=replace(card.pin, wrong_tries=one.pin.wrong_tries)) for one in counted if one)


async def test_a_guess_is_not_counted_on_a_card_that_moved_on_or_a_pin_that_is_locked(
    store: MongoCardStore, card: Card
) -> None:
    assert await store.count_pin_try(replace(card, version=1), 5) is None
    assert await store.count_pin_try(replace(card, stored_status=Status.LOCKED), 5) is None
    locked = await store.change(card, replace(card, pin=Pin(PinState.LOCKED, 0, "a hash")), _happened("pinLocked"))
    assert locked is not None
    assert await store.count_pin_try(locked, 5) is None
    assert (await store.card(card.card_id, card.holder_id)) == locked


async def test_a_right_guess_gives_back_itself_and_those_before_it_and_no_later_one(store: MongoCardStore, card: Card) -> None:
    guesses = [await store.count_pin_try(card, 5) for _ in range(3)]
    right = guesses[1]
    assert right is not None
    await store.give_back_pin_tries(right)
    now_is = await store.card(card.card_id, card.holder_id)
    assert now_is is not None
    assert now_is.pin == Pin(PinState.INITIAL, 1)
    chosen = await store.change(now_is, replace(now_is, pin=Pin(PinState.SET, 1, "a hash")), _happened("pinChanged"))
    # It was right for another PIN.
    await store.give_back_pin_tries(right)
    assert await store.card(card.card_id, card.holder_id) == chosen


async def test_a_document_of_an_earlier_version_is_read_and_changed(store: MongoCardStore, raw: Raw) -> None:
    record = RECORDS["locked"][0]
    await _put(store, record)
    raw.cards.update_one(
        {"_id": record.card.card_id}, {"$unset": {"pin.hash": "", "lockReason": "", "history.$[].request": ""}}
    )
    old = await store.card(record.card.card_id, record.card.holder_id)
    assert old == replace(record.card, lock_reason=None)
    assert not await store.did(old, b"q" * 32)
    counted = await store.count_pin_try(old, 5)
    assert counted is not None
    await store.give_back_pin_tries(counted)
    assert await store.card(old.card_id, old.holder_id) == old
    entries = await store.history(old.card_id, old.holder_id)
    assert entries is not None
    assert tuple(reversed(entries)) == record.history
    assert await store.change(old, replace(old, stored_status=Status.ACTIVE), _happened("unlocked")) is not None
