"""What counters do with a card, on a real database: the verbs that have no route of their own for residents."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storage.conftest import Raw, activate

from service.actors import COUNTERS, Actor, Role, holder_actor
from service.cards import Activation, BankStatus, Card, MedicalStatus, Pin, PinState, Status
from service.changes import CancelReason, Changes, Order
from service.clock import Clock
from service.errors import Refusal
from service.ids import ActivationId, new_id
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.holders import MongoHolderStore
from service.passwords import Passwords
from service.pins import Pins, initial_pin
from service.regions import SHIPPED, Regions
from service.sandbox.personas import Person, cast, people
from service.sandbox.records import card_records, holder_record
from service.vault import Vault

REGIONS = Regions.load_directory(SHIPPED)
PEOPLE = {person.key: person for person in people(cast(REGIONS))}
BYSTANDER = PEOPLE["hk-resident"]
NEW = "274913"


class _Still(Clock):
    """A clock that stands at a moment until somebody moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.at = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.at


@dataclass
class Desk:
    """A counter with everything behind it."""

    store: MongoCardStore
    changes: Changes
    pins: Pins
    clock: _Still
    raw: Raw

    async def card(self, key: str, **changes: Any) -> Card:
        """A persona's card, as a reset leaves it but for some changes, in the database."""
        (record, *_) = card_records(PEOPLE[key], REGIONS, self.clock.now())
        card = replace(record.card, **changes)
        await self.store.put(card, record.id_number, record.figures, record.history)
        return card

    async def now_is(self, card: Card) -> Card:
        found = await self.store.card_by_id(card.card_id)
        assert found is not None
        return found

    def told(self, card: Card) -> list[dict[str, Any]]:
        """The history as it lies there, oldest first."""
        document = self.raw.cards.find_one({"_id": card.card_id})
        assert document is not None
        history: list[dict[str, Any]] = document["history"]
        return history


@pytest.fixture
async def counter(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[Desk]:
    store, holders, clock = MongoCardStore(own, vault), MongoHolderStore(own, vault), _Still()
    changes, passwords = Changes(store, REGIONS, clock), Passwords(vault)
    for person in PEOPLE.values():
        await holders.put(holder_record(person, "hash"))
    pins = Pins(store=store, changes=changes, holders=holders, regions=REGIONS, passwords=passwords, clock=clock)
    made = Desk(store, changes, pins, clock, raw)
    bystander = await made.card(BYSTANDER.key)
    before = raw.cards.find_one({"_id": bystander.card_id})
    yield made
    assert raw.cards.find_one({"_id": bystander.card_id}) == before
    passwords.close()
    raw.cards.delete_many({})
    raw.holders.delete_many({})


def by(role: Role, *, approved: bool = False, bank: str = "B901", region: str = "990100") -> Order:
    """An order of somebody behind a counter, with a request of its own."""
    channel = COUNTERS[role]  # type: ignore[index]  # a holder stands behind none
    actor = Actor("op_asking", role, channel, frozenset({region}), "ins_x", bank if role == "bankTeller" else None)
    return Order(actor, new_id("req").encode(), "en", approved_by="op_second" if approved else None)


def by_holder(card: Card) -> Order:
    return Order(holder_actor(card.holder_id, "app"), new_id("req").encode(), "en")


async def refused(asking: Awaitable[object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asking
    return caught.value


async def test_a_lock_is_undone_by_one_person_unless_it_was_for_fraud(counter: Desk) -> None:
    card = await counter.changes.lock(await counter.card("active"), "holderRequest", by("bureauClerk"))
    assert (card.stored_status, card.lock_reason) == (Status.LOCKED, "holderRequest")
    card = await counter.changes.unlock(card, by("bureauClerk"))
    assert (card.stored_status, card.lock_reason) == (Status.ACTIVE, None)
    card = await counter.changes.lock(card, "fraud", by("bureauClerk"))
    alone = await refused(counter.changes.unlock(card, by("bureauSupervisor")))
    assert (alone.code, alone.facts) == ("forbidden", {"reason": "secondPersonRequired"})
    themselves = replace(by("bureauSupervisor"), approved_by="op_asking")
    assert (await refused(counter.changes.unlock(card, themselves))).code == "forbidden"
    card = await counter.changes.unlock(card, by("bureauClerk", approved=True))
    assert card == await counter.now_is(card)
    *_, last = counter.told(card)
    assert (last["happening"], last["by"], last["approvedBy"], last["channel"]) == (
        "unlocked",
        "op_asking",
        "op_second",
        "bureau",
    )
    assert [(entry["happening"], entry["reason"]) for entry in counter.told(card)[-4:]] == [
        ("locked", "holderRequest"),
        ("unlocked", None),
        ("locked", "fraud"),
        ("unlocked", None),
    ]


@pytest.mark.parametrize(
    ("reason", "medical"),
    [("death", MedicalStatus.CLOSED), ("emigration", MedicalStatus.CLOSED), ("error", MedicalStatus.NORMAL)],
)
async def test_a_cancelled_card_closes_its_account_and_the_medical_one_with_the_insurance_only(
    counter: Desk, reason: CancelReason, medical: MedicalStatus
) -> None:
    card = await counter.card("active")
    assert (await refused(counter.changes.cancel(card, reason, by("bureauSupervisor")))).code == "forbidden"
    done = await counter.changes.cancel(card, reason, by("bureauClerk", approved=True))
    assert (done.stored_status, done.bank.status, done.stored_medical) == (Status.CANCELLED, BankStatus.CLOSED, medical)
    assert done == await counter.now_is(card)
    for again in (
        counter.changes.cancel(done, reason, by("bureauClerk", approved=True)),
        counter.changes.lock(done, "fraud", by("bureauClerk")),
        counter.changes.report_loss(done, "formal", by_holder(done)),
    ):
        no = await refused(again)
        assert (no.code, no.facts["from"], no.facts["allowed"]) == ("transition_not_allowed", "cancelled", [])


async def test_a_card_that_was_made_by_mistake_is_cancelled_before_delivery(counter: Desk) -> None:
    for key in ("not-delivered", "test-card"):
        done = await counter.changes.cancel(await counter.card(key), "error", by("bureauClerk", approved=True))
        assert done.stored_status is Status.CANCELLED


async def test_a_reversed_activation_seals_the_card_and_another_is_a_new_one(counter: Desk) -> None:
    card = await counter.card("sealed")
    first = Activation(ActivationId(new_id("act")), counter.clock.now(), "app", card.holder_id, b"r" * 32)
    active = await activate(counter.store, card, first)
    assert active is not None
    assert (await refused(counter.changes.reverse_activation(active, by("bureauClerk")))).code == "forbidden"
    assert (await refused(counter.changes.reverse_activation(active, by_holder(active)))).code == "channel_not_allowed"
    sealed = await counter.changes.reverse_activation(active, by("bureauClerk", approved=True))
    assert (sealed.stored_status, sealed.activation, sealed.version) == (Status.SEALED, None, active.version + 1)
    assert await counter.store.by_activation(first.activation_id) is None
    again = replace(first, activation_id=ActivationId(new_id("act")))
    assert await activate(counter.store, sealed, again) is not None
    assert [(entry["from"], entry["to"]) for entry in counter.told(card)] == [
        ("sealed", "active"),
        ("active", "sealed"),
        ("sealed", "active"),
    ]


async def test_an_account_is_activated_by_its_own_bank_and_once(counter: Desk) -> None:
    card = await counter.card("active")
    card = await counter.card("active", bank=replace(card.bank, status=BankStatus.PENDING))
    for stranger in (by("bankTeller", bank="B902"), by("bureauClerk"), by("bankTeller", region="990200"), by_holder(card)):
        assert (await refused(counter.changes.activate_bank(card, stranger))).code == "channel_not_allowed"
    done = await counter.changes.activate_bank(card, by("bankTeller"))
    assert (done.bank.status, done.stored_status) == (BankStatus.ACTIVE, Status.ACTIVE)
    assert done == await counter.now_is(card)
    no = await refused(counter.changes.activate_bank(done, by("bankTeller")))
    assert (no.code, no.facts["reason"]) == ("transition_not_allowed", "bankActive")


@pytest.mark.parametrize("key", ["active", "formally-lost", "temporarily-lost", "locked", "sealed"])
async def test_a_card_ends_when_the_one_in_its_place_is_handed_out_however_often_that_is_carried_out(
    counter: Desk, key: str
) -> None:
    card, order = await counter.card(key), by("bureauClerk")
    done = await counter.changes.replaced(card, order)
    assert (done.stored_status, done.bank.status) == (Status.CANCELLED, BankStatus.CLOSED)
    assert done.stored_medical is card.stored_medical
    # The relay may carry it out again, from whatever it had read.
    assert await counter.changes.replaced(done, order) == done
    assert await counter.changes.replaced(card, order) == done
    assert [entry["happening"] for entry in counter.told(card)].count("replaced") == 1


async def test_a_request_that_comes_again_finds_its_own_work_also_after_the_card_moved_on(counter: Desk) -> None:
    card = await counter.card("active")
    order = by_holder(card)
    lost = await counter.changes.report_loss(card, "temporary", order)
    assert await counter.changes.report_loss(card, "temporary", order) == lost
    found = await counter.changes.cancel_loss(lost, by_holder(card))
    # Judged by the state alone it would be lost once more.
    assert await counter.changes.report_loss(lost, "temporary", order) == found
    assert [entry["happening"] for entry in counter.told(card)][-2:] == ["temporaryLossReported", "lossCancelled"]


async def test_whoever_loses_a_race_is_judged_anew(counter: Desk) -> None:
    """All read the same card. What is still allowed after another's change happens too; the rest says what is so now."""
    card = await counter.card("active")
    lost = await asyncio.gather(
        counter.changes.report_loss(card, "temporary", by_holder(card)),
        counter.changes.report_loss(card, "formal", by("bureauClerk")),
        counter.changes.lock(card, "fraud", by("bureauClerk")),
        return_exceptions=True,
    )
    assert all(isinstance(one, Card | Refusal) for one in lost)
    history = [(entry["from"], entry["to"]) for entry in counter.told(card)]
    assert [before for before, _ in history[1:]] == [after for _, after in history[:-1]]
    assert len(history) - 1 == sum(isinstance(one, Card) for one in lost) >= 1
    assert {one.code for one in lost if isinstance(one, Refusal)} <= {"transition_not_allowed"}


async def test_any_change_of_a_card_whose_loss_ran_out_starts_from_what_it_is(counter: Desk) -> None:
    days = REGIONS.get("990100").policy.temporary_loss_days
    verbs: list[Callable[[Card], Awaitable[Card]]] = [
        lambda card: counter.changes.report_loss(card, "temporary", by_holder(card)),
        lambda card: counter.changes.lock(card, "fraud", by("bureauClerk")),
        lambda card: counter.pins.reset(card, by("bureauClerk")),
        lambda card: counter.changes.cancel(card, "death", by("bureauClerk", approved=True)),
    ]
    for verb in verbs:
        lost = await counter.changes.report_loss(
            await counter.card("active"), "temporary", by_holder(await counter.card("active"))
        )
        counter.clock.at += timedelta(days=days)
        done = await verb(lost)
        assert done == await counter.now_is(lost)
        assert counter.told(lost)[-1]["from"] == "active"
        assert done.stored_status is Status.TEMPORARILY_LOST or done.temporary_loss_until is None
    lost = await counter.changes.report_loss(await counter.card("active"), "temporary", by_holder(await counter.card("active")))
    counter.clock.at += timedelta(days=days)
    no = await refused(counter.changes.cancel_loss(lost, by_holder(lost)))
    assert (no.code, no.facts["from"]) == ("transition_not_allowed", "active")


# The PIN at a counter.


def pin_of(person: Person) -> str:
    return initial_pin(REGIONS.get("990100"), person.id_number)


async def test_the_first_pin_opens_nothing_and_one_that_was_chosen_does(counter: Desk) -> None:
    card = await counter.card("active", pin=Pin(PinState.INITIAL, 0))
    first = pin_of(PEOPLE["active"])
    for guess in (first, "999998"):
        assert (await refused(counter.pins.check(card, guess, by("hospitalClerk")))).code == "pin_change_required"
    assert (await counter.now_is(card)).pin.wrong_tries == 0
    card = await counter.pins.change(card, first, NEW, by_holder(card))
    assert (await counter.pins.check(card, NEW, by("hospitalClerk"))).pin.wrong_tries == 0
    assert (await refused(counter.pins.check(card, first, by("hospitalClerk")))).facts == {"triesLeft": 4}
    assert await counter.pins.check(card, NEW, by("hospitalClerk")) == card
    for stranger in (by("bureauClerk"), by("bankTeller"), by("hospitalClerk", region="990200"), by_holder(card)):
        assert (await refused(counter.pins.check(card, NEW, stranger))).code == "channel_not_allowed"


@pytest.mark.parametrize("right_at", [None, 0, 50, 99])
async def test_of_a_hundred_checks_at_once_no_more_are_judged_than_are_left(counter: Desk, right_at: int | None) -> None:
    card = await counter.card("active", pin=Pin(PinState.INITIAL, 0))
    card = await counter.pins.change(card, pin_of(PEOPLE["active"]), NEW, by_holder(card))
    guesses = [f"{number:06d}" for number in range(900_000, 900_100)]
    if right_at is not None:
        guesses[right_at] = NEW
    asked = [counter.pins.check(card, guess, by("hospitalClerk")) for guess in guesses]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    codes = Counter("ok" if isinstance(one, Card) else one.code for one in answers if isinstance(one, Card | Refusal))
    assert codes.total() == 100
    # A right one gives back its own try and those before it; nobody ever has more than five in a row.
    assert codes["pin_incorrect"] <= 5 * (1 + codes["ok"])
    assert codes["ok"] <= (right_at is not None)
    if not codes["ok"]:
        assert codes == {"pin_incorrect": codes["pin_incorrect"], "pin_locked": 100 - codes["pin_incorrect"]}
        assert (await counter.now_is(card)).pin.state is PinState.LOCKED
        assert [entry["happening"] for entry in counter.told(card)].count("pinLocked") == 1


@pytest.mark.parametrize("right_at", [0, 1, 4, 50])
async def test_of_a_hundred_changes_at_once_five_guesses_are_judged_the_right_one_among_them_or_not(
    counter: Desk, right_at: int
) -> None:
    """All begin with the same card: once its PIN is another, a guess at the old one is not judged any more."""
    card = await counter.card("active", pin=Pin(PinState.INITIAL, 0))
    guesses = [f"{number:06d}" for number in range(900_000, 900_100)]
    guesses[right_at] = pin_of(PEOPLE["active"])
    asked = [counter.pins.change(card, guess, NEW, by_holder(card)) for guess in guesses]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    codes = Counter("ok" if isinstance(one, Card) else one.code for one in answers if isinstance(one, Card | Refusal))
    assert codes.total() == 100
    assert codes["ok"] + codes["pin_incorrect"] <= 5
    assert codes["ok"] <= 1
    now_is = await counter.now_is(card)
    assert (now_is.pin.hash is not None) == (codes["ok"] == 1)
    assert set(codes) <= {"ok", "pin_incorrect", "pin_locked", "transition_not_allowed"}


async def test_a_locked_pin_is_reset_at_a_counter_and_begins_anew(counter: Desk) -> None:
    card = await counter.card("active", pin=Pin(PinState.LOCKED, 5, "a hash"))
    assert (await refused(counter.pins.change(card, NEW, "380572", by_holder(card)))).code == "pin_locked"
    assert (await refused(counter.pins.reset(card, by_holder(card)))).code == "channel_not_allowed"
    order = by("bureauClerk")
    reset = await counter.pins.reset(card, order)
    assert reset.pin == Pin(PinState.INITIAL, 0)
    changed = await counter.pins.change(reset, pin_of(PEOPLE["active"]), NEW, by_holder(card))
    assert await counter.pins.reset(card, order) == changed
    assert [entry["happening"] for entry in counter.told(card)][-2:] == ["pinReset", "pinChanged"]


async def test_a_change_whose_answer_was_lost_is_found_again_and_costs_no_try(counter: Desk) -> None:
    card = await counter.card("active", pin=Pin(PinState.INITIAL, 2))
    order, first = by_holder(card), pin_of(PEOPLE["active"])
    changed = await counter.pins.change(card, first, NEW, order)
    assert await counter.pins.change(card, first, NEW, order) == changed
    assert (await counter.now_is(card)).pin == changed.pin


async def test_a_chosen_pin_that_came_without_its_hash_is_nobodys(counter: Desk) -> None:
    """As an import brings it: the state is known and the PIN is not, so a counter resets it."""
    card = await counter.card("active", pin=Pin(PinState.SET, 0))
    for guess in (pin_of(PEOPLE["active"]), NEW, "999998"):
        assert (await refused(counter.pins.check(card, guess, by("hospitalClerk")))).code == "pin_incorrect"
    assert (await counter.pins.reset(await counter.now_is(card), by("bureauClerk"))).pin == Pin(PinState.INITIAL, 0)


async def test_no_pin_lies_in_the_database(counter: Desk) -> None:
    card = await counter.card("active", pin=Pin(PinState.INITIAL, 0))
    await counter.pins.change(card, pin_of(PEOPLE["active"]), NEW, by_holder(card))
    document = counter.raw.cards.find_one({"_id": card.card_id})
    assert document is not None
    assert document["pin"]["hash"].startswith("$argon2id$")
    assert NEW not in str(document)
