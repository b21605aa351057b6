"""Until when somebody is a minor, and what a guardian may do for them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dependants import AUTHORITY, MOST_GUARDIANS, OF_AGE, Act, Dependant, dependant_id_of, grown_up_on
from service.ids import HolderId, is_id, new_id
from service.numbers import ResidentId
from service.regions import SHIPPED, Regions
from service.transitions import PERMITTED

LINK = Dependant(
    dependant_id=dependant_id_of(HolderId("hld_a"), HolderId("hld_b")),
    guardian_id=HolderId("hld_a"),
    holder_id=HolderId("hld_b"),
    relationship="child",
    until=date(2030, 5, 17),
    seat=0,
    version=1,
    linked_by=b"m",
    ended_at=None,
    ended_by=None,
)


@pytest.mark.parametrize(
    ("born", "age", "day"),
    [
        (date(2014, 5, 17), 16, date(2030, 5, 17)),
        (date(2014, 12, 31), 14, date(2028, 12, 31)),
        (date(2014, 1, 1), 18, date(2032, 1, 1)),
        # On a leap day: to the day in a leap year, on 1 March in a common one, as ages are counted.
        (date(2012, 2, 29), 16, date(2028, 2, 29)),
        (date(2012, 2, 29), 14, date(2026, 3, 1)),
        (date(2012, 2, 29), 17, date(2029, 3, 1)),
        (date(2012, 2, 29), 18, date(2030, 3, 1)),
        # The year 2100 is no leap year.
        (date(2084, 2, 29), 16, date(2100, 3, 1)),
        (date(2012, 3, 1), 18, date(2030, 3, 1)),
        (date(2012, 2, 28), 18, date(2030, 2, 28)),
    ],
)
def test_the_day_on_which_somebody_is_grown_up(born: date, age: int, day: date) -> None:
    assert grown_up_on(born, age) == day


@given(st.dates(date(1930, 1, 1), date(2100, 12, 31)), st.integers(14, 18))
def test_there_is_no_day_on_which_somebody_is_both_a_minor_and_grown_up_or_neither(born: date, age: int) -> None:
    person = ResidentId("1" * 18, born)
    until = grown_up_on(born, age)
    assert person.age_on(until) == age
    assert person.age_on(until - timedelta(days=1)) == age - 1


def test_a_link_counts_up_to_midnight_in_china_before_the_birthday() -> None:
    midnight = datetime(2030, 5, 16, 16, 0, tzinfo=UTC)
    assert LINK.is_alive(midnight - timedelta(milliseconds=1))
    assert not LINK.is_alive(midnight)
    assert not LINK.is_alive(midnight + timedelta(days=400))


def test_a_link_that_somebody_ended_does_not_count() -> None:
    ended = replace(LINK, ended_at=datetime(2027, 1, 1, tzinfo=UTC), seat=None)
    assert not ended.is_alive(datetime(2027, 1, 2, tzinfo=UTC))


def test_there_is_one_id_a_pair_and_another_for_the_other_way_round() -> None:
    one, other = HolderId(new_id("hld")), HolderId(new_id("hld"))
    assert dependant_id_of(one, other) == dependant_id_of(one, other) != dependant_id_of(other, one)
    assert is_id("dep", dependant_id_of(one, other))


def test_what_a_guardian_may_do_is_said_of_every_act() -> None:
    assert AUTHORITY.keys() == set(Act)
    assert {act for act in Act if not AUTHORITY[act]} == {Act.REPLACE, Act.CHANGE_PIN, Act.PAY_WITH_ECARD}


def test_acts_on_a_card_are_the_holders_own_and_are_called_as_in_the_cards_table() -> None:
    beside = {Act.SEE_CARDS, Act.SEE_CONTRIBUTIONS, Act.SEE_ECARD, Act.HOLD_ECARD, Act.SHOW_ECARD, Act.PAY_WITH_ECARD}
    assert {str(act) for act in Act if act not in beside} == {str(action) for action in PERMITTED["holder"]}


def test_whoever_is_of_age_is_a_minor_nowhere() -> None:
    assert all(region.policy.guardian_age <= OF_AGE for region in Regions.load_directory(SHIPPED))
    assert MOST_GUARDIANS >= 2
