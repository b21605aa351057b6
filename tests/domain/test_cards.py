from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from service.cards import (
    AAZ502,
    Bank,
    BankStatus,
    Card,
    MedicalStatus,
    Pin,
    PinState,
    Stage,
    Status,
    medical_among,
)
from service.clock import CHINA
from service.ids import CardId, HolderId
from service.regions import SHIPPED, Region, Regions

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
REGIONS = Regions.load_directory(SHIPPED)
CARD = Card(
    card_id=CardId("card_aaaaaaaaaaaaaaaaaaaaaaaa"),
    holder_id=HolderId("hld_aaaaaaaaaaaaaaaaaaaaaaaa"),
    region_code="990100",
    number="A12345670",
    identification_code="990100D1560000050123456789ABCDEF",
    holder_name="王假安",
    generation=3,
    bank=Bank("B901", None, BankStatus.PENDING),
    stage=Stage.DELIVERED,
    test_batch=False,
    stored_status=Status.SEALED,
    temporary_loss_until=None,
    activation=None,
    stored_medical=MedicalStatus.NORMAL,
    pin=Pin(PinState.INITIAL, 0),
    expires_on=date(2035, 8, 31),
    version=0,
)


def card(**changes: Any) -> Card:
    return replace(CARD, **changes)


@pytest.mark.parametrize(
    ("left", "status"),
    [
        (timedelta(days=7), Status.TEMPORARILY_LOST),
        (timedelta(milliseconds=1), Status.TEMPORARILY_LOST),
        (timedelta(0), Status.ACTIVE),
        (timedelta(days=-365), Status.ACTIVE),
    ],
)
def test_a_temporary_loss_is_over_at_its_moment(left: timedelta, status: Status) -> None:
    lost = card(stored_status=Status.TEMPORARILY_LOST, temporary_loss_until=NOW + left)
    assert lost.status(NOW) is status
    assert lost.as_of(NOW).stored_status is status
    assert (lost.as_of(NOW) == lost) == (status is Status.TEMPORARILY_LOST)


def test_a_card_as_of_a_moment_differs_in_what_time_has_ended_and_in_nothing_else() -> None:
    lost = card(stored_status=Status.TEMPORARILY_LOST, temporary_loss_until=NOW, version=7)
    assert lost.as_of(NOW) == card(stored_status=Status.ACTIVE, version=7)
    for status in set(Status) - {Status.TEMPORARILY_LOST}:
        assert card(stored_status=status).as_of(NOW) == card(stored_status=status)


@pytest.mark.parametrize("state", PinState)
def test_a_pin_is_locked_by_the_last_try_whether_or_not_that_was_written_down(state: PinState) -> None:
    for tries in range(7):
        pin = Pin(state, tries, None)
        locked = state is PinState.LOCKED or tries >= 5
        assert (pin.state_under(5) is PinState.LOCKED) == locked
        assert pin.tries_left(5) == (0 if locked else 5 - tries)
        assert locked or pin.state_under(5) is state


def test_a_pin_does_not_show_its_hash() -> None:
    assert "argon2" not in repr(card(pin=Pin(PinState.SET, 0, "$argon2id$v=19$secret")))


def test_a_card_expires_after_its_day_in_china() -> None:
    last = datetime(2035, 8, 31, 15, 59, 59, tzinfo=UTC)
    assert not CARD.is_expired(last)
    assert CARD.is_expired(last + timedelta(seconds=1))


def test_a_temporary_loss_without_an_end_does_not_end() -> None:
    assert card(stored_status=Status.TEMPORARILY_LOST).status(NOW + timedelta(days=9999)) is Status.TEMPORARILY_LOST


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.TEMPORARILY_LOST])
def test_an_end_of_temporary_loss_says_nothing_about_another_status(status: Status) -> None:
    assert card(stored_status=status, temporary_loss_until=NOW - timedelta(days=1)).status(NOW) is status


def _midnight_in_china(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=CHINA).astimezone(UTC)


@pytest.fixture
def retiring() -> Region:
    """A region that has announced when the second generation ends."""
    return REGIONS.get("990400")


def test_the_medical_account_of_a_new_card_freezes_at_midnight_of_the_cut_off_in_china(retiring: Region) -> None:
    cut_off = retiring.policy.cut_off_of(2)
    assert cut_off is not None
    midnight = _midnight_in_china(cut_off)
    assert midnight.date() < cut_off
    moments = [midnight - timedelta(milliseconds=1), midnight, midnight + timedelta(days=4000)]
    assert [card().medical_alone(retiring, moment) for moment in moments] == [
        MedicalStatus.NORMAL,
        MedicalStatus.FROZEN,
        MedicalStatus.FROZEN,
    ]


@pytest.mark.parametrize("stage", Stage)
def test_it_freezes_also_for_who_has_not_collected_the_card(retiring: Region, stage: Stage) -> None:
    assert card(stage=stage).medical_alone(retiring, NOW) is MedicalStatus.FROZEN


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SEALED])
def test_activation_ends_it_by_itself_and_a_later_loss_does_not_bring_it_back(retiring: Region, status: Status) -> None:
    assert card(stored_status=status).medical_alone(retiring, NOW) is MedicalStatus.NORMAL


@pytest.mark.parametrize("stored", [stored for stored in MedicalStatus if stored is not MedicalStatus.NORMAL])
@pytest.mark.parametrize("status", Status)
def test_an_account_that_is_not_normal_stays_what_it_is(retiring: Region, stored: MedicalStatus, status: Status) -> None:
    assert card(stored_status=status, stored_medical=stored).medical_alone(retiring, NOW) is stored


@pytest.mark.parametrize("code", ["990100", "990200", "990500"])
def test_nothing_freezes_where_nothing_ends_or_before_it_does(code: str) -> None:
    assert card(region_code=code).medical_alone(REGIONS.get(code), NOW) is MedicalStatus.NORMAL


@pytest.mark.parametrize("status", Status)
def test_a_card_of_the_generation_that_ended_is_frozen_until_it_is_cancelled(retiring: Region, status: Status) -> None:
    expected = MedicalStatus.NORMAL if status is Status.CANCELLED else MedicalStatus.FROZEN
    assert card(generation=2, stored_status=status).medical_alone(retiring, NOW) is expected


@pytest.mark.parametrize("status", Status)
def test_an_activated_new_card_thaws_the_account_of_its_holder_on_every_card(retiring: Region, status: Status) -> None:
    old, new = card(generation=2, stored_status=Status.ACTIVE), card(stored_status=status, region_code="990400")
    thawed = status not in {Status.SEALED, Status.CANCELLED}
    expected = MedicalStatus.NORMAL if thawed else MedicalStatus.FROZEN
    assert medical_among(old, [old, new], retiring, NOW) is expected
    assert medical_among(card(), [new, card()], retiring, NOW) is expected


def test_a_card_elsewhere_or_one_that_is_over_thaws_nothing(retiring: Region) -> None:
    old = card(generation=2, stored_status=Status.ACTIVE)
    elsewhere = card(stored_status=Status.ACTIVE, region_code="990100")
    assert medical_among(old, [elsewhere, old], retiring, NOW) is MedicalStatus.FROZEN


def test_what_an_insurer_froze_no_card_thaws(retiring: Region) -> None:
    old = card(generation=2, stored_status=Status.ACTIVE, stored_medical=MedicalStatus.FROZEN)
    assert medical_among(old, [card(stored_status=Status.ACTIVE, region_code="990400")], retiring, NOW) is MedicalStatus.FROZEN


def test_status_codes_are_those_of_the_standard_and_each_its_own() -> None:
    assert AAZ502 == {
        Status.SEALED: 0,
        Status.ACTIVE: 1,
        Status.FORMALLY_LOST: 2,
        Status.LOCKED: 3,
        Status.TEMPORARILY_LOST: 4,
        Status.CANCELLED: 9,
    }


def test_words_on_the_wire_are_those_of_the_contract() -> None:
    assert {str(status) for status in Status} == {
        "sealed",
        "active",
        "formallyLost",
        "locked",
        "temporarilyLost",
        "cancelled",
    }
    assert [str(stage) for stage in Stage] == [
        "accepted",
        "bankPreOpened",
        "inProduction",
        "shippedByProvince",
        "receivedByCity",
        "receivedByBank",
        "delivered",
    ]
    assert {str(status) for status in BankStatus} == {"none", "pending", "active", "dormant", "closed"}
    assert {str(status) for status in MedicalStatus} == {"unopened", "normal", "frozen", "closed"}
    assert {str(state) for state in PinState} == {"initial", "set", "locked"}
