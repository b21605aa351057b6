from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.ids import HolderId, InstitutionId
from service.insurance import (
    INSURANCES,
    REGISTER_WITHIN,
    WORKING_AGE,
    Cover,
    Ending,
    EndReason,
    Insurance,
    Relation,
    codes_of,
    has_ended,
    hiring_fault,
    insured_in,
    overdue_days,
)
from service.numbers import ResidentId
from service.registrations import registration_id_of

DAYS = st.dates(date(1950, 1, 1), date(2060, 12, 31))
HOLDER = HolderId("hld_aaaaaaaaaaaaaaaaaaaaaaaa")
NOON = datetime(2026, 11, 22, 4, tzinfo=UTC)


def relation(
    since: date, ending: tuple[date, EndReason] | None = None, *, employer: str | None = "ins_a", codes: Sequence[str] = ()
) -> Relation:
    wanted = [code for code in INSURANCES if code in codes] if codes else list(codes_of(frozenset(Insurance)))
    return Relation(
        registration_id=registration_id_of(HOLDER, InstitutionId(employer) if employer else None, since.toordinal()),
        holder_id=HOLDER,
        employer_id=InstitutionId(employer) if employer else None,
        number=1,
        region_code="990100",
        covers=tuple(Cover(code, since) for code in wanted),
        since=since,
        registered_at=NOON,
        overdue_days=0,
        by="op_a",
        request=b"",
        ending=Ending(ending[0], NOON, "op_a", ending[1]) if ending else None,
        version=1,
    )


@pytest.mark.parametrize(("days", "overdue"), [(0, 0), (1, 0), (29, 0), (30, 0), (31, 1), (32, 2), (395, 365)])
def test_the_thirtieth_day_is_in_time_and_the_next_is_one_too_late(days: int, overdue: int) -> None:
    hired = date(2026, 2, 28)
    assert overdue_days(hired, hired + timedelta(days)) == overdue


@given(DAYS, st.integers(0, 20_000))
def test_a_registration_is_overdue_by_every_day_after_the_thirtieth(hired: date, later: int) -> None:
    today = hired + timedelta(later)
    overdue = overdue_days(hired, today)
    assert overdue >= 0
    assert (overdue == 0) == (today <= hired + timedelta(REGISTER_WITHIN))
    assert overdue == 0 or hired + timedelta(REGISTER_WITHIN + overdue) == today


@given(born=DAYS, hired=DAYS, today=DAYS)
def test_who_may_have_been_hired_was_born_and_of_working_age_and_it_is_past(born: date, hired: date, today: date) -> None:
    fault = hiring_fault(ResidentId("", born), hired, today)
    assert (fault == "hired_in_future") == (hired > today)
    if fault is None:
        assert born.year + WORKING_AGE <= hired.year
        assert hired <= today
    if fault == "hired_before_birth":
        assert hired < born
    if fault == "under_working_age":
        assert born <= hired <= date(min(born.year + WORKING_AGE, 9998), 12, 31)


@given(born=DAYS, days=st.integers(-3, 3))
def test_working_age_begins_on_the_sixteenth_birthday(born: date, days: int) -> None:
    assume((born.month, born.day) != (2, 29))
    birthday = born.replace(year=born.year + WORKING_AGE)
    fault = hiring_fault(ResidentId("", born), birthday + timedelta(days), date(2100, 1, 1))
    assert fault == ("under_working_age" if days < 0 else None)


def test_who_was_born_on_a_leap_day_is_sixteen_on_the_first_of_march_of_a_common_year() -> None:
    leap = ResidentId("", date(2088, 2, 29))
    assert hiring_fault(leap, date(2104, 2, 28), date(2110, 1, 1)) == "under_working_age"
    assert hiring_fault(leap, date(2104, 2, 29), date(2110, 1, 1)) is None
    common = ResidentId("", date(1884, 2, 29))
    assert hiring_fault(common, date(1900, 2, 28), date(2026, 1, 1)) == "under_working_age"
    assert hiring_fault(common, date(1900, 3, 1), date(2026, 1, 1)) is None


def test_every_insurance_has_its_codes_and_pension_has_two() -> None:
    assert codes_of(frozenset(Insurance)) == ("110", "210", "310", "410", "510")
    assert codes_of(frozenset(Insurance), "120") == ("120", "210", "310", "410", "510")
    assert codes_of({Insurance.MEDICAL}, "120") == ("310",)
    assert {INSURANCES[code] for code in codes_of(frozenset(Insurance))} == {*Insurance}


FIRST = date(2020, 1, 1)
LEFT, GONE, LATER = date(2024, 5, 31), date(2025, 6, 30), date(2025, 9, 1)


@pytest.mark.parametrize(
    ("relations", "ended"),
    [
        ([], False),
        ([relation(FIRST)], False),
        ([relation(FIRST, (LEFT, "employmentEnded"))], False),
        ([relation(FIRST, (GONE, "emigration"))], True),
        ([relation(FIRST, (GONE, "death"))], True),
        ([relation(FIRST, (GONE, "emigration")), relation(FIRST, employer="ins_b")], False),
        ([relation(FIRST, (GONE, "emigration")), relation(FIRST, (LATER, "employmentEnded"), employer="ins_b")], True),
        ([relation(FIRST, (GONE, "emigration")), relation(LATER, (LATER, "employmentEnded"), employer="ins_b")], False),
        ([relation(FIRST, (GONE, "emigration")), relation(LATER, (LATER, "death"), employer="ins_b")], True),
        ([relation(FIRST, (LEFT, "employed"), employer=None), relation(LEFT, (GONE, "emigration"))], True),
    ],
    ids=[
        "nobody knows",
        "runs",
        "left",
        "emigrated",
        "died",
        "runs elsewhere",
        "left after it",
        "came back",
        "died abroad",
        "own",
    ],
)
def test_only_death_and_emigration_end_an_insurance(relations: list[Relation], *, ended: bool) -> None:
    assert has_ended(relations) is ended
    assert has_ended(relations[::-1]) is ended


RELATIONS = st.lists(
    st.builds(
        lambda since, days, reason, employer: relation(
            since, (since + timedelta(days), reason) if reason else None, employer=employer
        ),
        st.dates(FIRST, GONE),
        st.integers(0, 900),
        st.sampled_from([None, "employmentEnded", "death", "emigration"]),
        st.sampled_from(["ins_a", "ins_b"]),
    ),
    max_size=5,
)


@given(RELATIONS)
def test_whose_insurance_has_ended_has_no_relation_that_runs_and_leaving_an_employer_never_ends_it(
    relations: list[Relation],
) -> None:
    if has_ended(relations):
        assert not any(one.runs for one in relations)
    kept = [replace(one, ending=replace(one.ending, reason="employmentEnded")) if one.ending else one for one in relations]
    assert not has_ended(kept)


def states(*relations: Relation) -> dict[Insurance, tuple[str, str | None, date | None]]:
    found = [insured_in(relations, insurance) for insurance in Insurance]
    return {one.insurance: (one.state, one.employer_id, one.since) for one in found}


def test_an_employment_that_runs_comes_before_all_else() -> None:
    own = relation(FIRST, employer=None, codes=["110", "310"])
    found = states(own, relation(FIRST, (GONE, "employmentEnded"), employer="ins_b"), relation(LEFT))
    assert set(found.values()) == {("active", "ins_a", LEFT)}


def test_ones_own_comes_before_an_employment_that_is_over() -> None:
    own = relation(LATER, employer=None, codes=["110", "310"])
    found = states(relation(FIRST, (GONE, "employmentEnded")), own)
    assert found[Insurance.PENSION] == found[Insurance.MEDICAL] == ("active", None, LATER)
    assert found[Insurance.WORK_INJURY] == ("suspended", "ins_a", GONE)


def test_what_ended_last_is_shown_when_nothing_runs() -> None:
    found = states(relation(FIRST, (GONE, "emigration"), employer="ins_b"), relation(FIRST, (LEFT, "employmentEnded")))
    assert set(found.values()) == {("ended", "ins_b", GONE)}


def test_of_whom_nothing_is_known_nothing_is_said() -> None:
    assert set(states().values()) == {("none", None, None)}
