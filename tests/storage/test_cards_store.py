import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from storage.conftest import Raw

from service.cards import Activation, Card, Status
from service.ids import ActivationId, CardId, HolderId, new_id
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
    changed = await store.activate(card, activation, "en")
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
    assert await store.activate(replace(card, **change), _activation(card), "en") is None
    assert raw.cards.find_one({"_id": card.card_id}) == before


async def test_a_card_that_moved_on_since_it_was_read_is_not_changed(store: MongoCardStore, card: Card, raw: Raw) -> None:
    raw.cards.update_one({"_id": card.card_id}, {"$inc": {"version": 1}})
    before = raw.cards.find_one({"_id": card.card_id})
    assert await store.activate(card, _activation(card), "en") is None
    assert raw.cards.find_one({"_id": card.card_id}) == before


async def test_a_hundred_activations_over_two_connections_are_one(
    store: MongoCardStore, second: Database, vault: Vault, card: Card, raw: Raw
) -> None:
    other = MongoCardStore(second, vault)
    changed = await asyncio.gather(*((store, other)[n % 2].activate(card, _activation(card), "en") for n in range(100)))
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
    guarded = [await store.activate(one, _activation(card), "en") for one in read if one is not None]
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
    assert await store.activate(card, activation, "en") is not None
    other = RECORDS["hk-resident"][0]
    await _put(store, other)
    with pytest.raises(Duplicate):
        await store.activate(other.card, activation, "en")
    assert await store.card(other.card.card_id, other.card.holder_id) == other.card


async def test_what_waits_to_be_told_is_taken_off_once_and_alone(store: MongoCardStore, card: Card, raw: Raw) -> None:
    await store.activate(card, _activation(card, by=HolderId("hld_guardian")), "en")
    happenings = {happening.happening_id: happening for happening in await store.uncarried(10)}
    assert set(happenings) == {"bystander:1", f"{card.card_id}:1"}
    mine = happenings[f"{card.card_id}:1"]
    assert (mine.card_id, mine.name, mine.at, mine.tell, mine.locale) == (card.card_id, "activated", NOW, "hld_guardian", "en")
    raw.cards.update_one({"_id": card.card_id}, {"$push": {"outbox": {**_item(mine.at), "id": "later"}}})
    for _ in range(2):
        await store.carried(mine)
        document = raw.cards.find_one({"_id": card.card_id})
        assert document is not None
        assert [item["id"] for item in document["outbox"]] == ["later"]
        assert (document["version"], len(document["history"])) == (1, 1)
    assert await store.waiting()
    raw.cards.update_one({"_id": card.card_id}, {"$set": {"outbox": []}})
    assert [happening.happening_id for happening in await store.uncarried(10)] == ["bystander:1"]


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
