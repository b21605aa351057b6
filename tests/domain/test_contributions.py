"""Contributions as values: which rows are meant, how months count, where pages begin."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contributions import (
    MONTH_PATTERN,
    STATUSES,
    Contribution,
    ContributionRecord,
    ContributionStatus,
    Month,
    Report,
    Selection,
    codes_named,
    counted,
    page_after,
    selected,
)
from service.insurance import INSURANCES, Insurance, InsuranceCode

AT = datetime(2026, 11, 22, 8, tzinfo=UTC)
ALL = codes_named(None)


def row(code: InsuranceCode, month: str, status: ContributionStatus = "paid") -> Contribution:
    return Contribution(code, Month(month), 500_000, 40_000, 80_000, status)


def record(*rows: Contribution) -> ContributionRecord:
    return ContributionRecord((Report("socialInsuranceBureau", AT, rows),))


@pytest.mark.parametrize("month", ["1951-01", "1999-12", "2026-10", "2099-12"])
def test_a_month_of_the_calendar_is_one(month: str) -> None:
    assert re.fullmatch(MONTH_PATTERN, month)


@pytest.mark.parametrize(
    "month", ["1949-10", "2026-00", "2026-13", "2026-1", "202610", "2026-10-01", "2100-01", "２０２６-10", ""]
)
def test_anything_else_is_none(month: str) -> None:
    assert not re.fullmatch(MONTH_PATTERN, month)


def test_an_insurance_is_named_by_its_word_or_by_one_of_its_codes() -> None:
    assert codes_named("pension") == {"110", "120"}
    assert codes_named("120") == {"120"}
    assert codes_named("workInjury") == {"410"}
    assert codes_named(None) == set(INSURANCES)
    assert codes_named("housing") == set()


def test_both_ends_of_a_range_belong_to_it() -> None:
    months = ["2025-12", "2026-01", "2026-02", "2026-03"]
    rows = record(*(row("110", month) for month in months))

    def found(first: str | None, last: str | None) -> list[str]:
        wanted = Selection(ALL, Month(first) if first else None, Month(last) if last else None)
        return [one.row.month for one in selected(rows, wanted)]

    assert found("2026-01", "2026-02") == ["2026-02", "2026-01"]
    assert found("2026-03", "2026-03") == ["2026-03"]
    assert found(None, "2025-12") == ["2025-12"]
    assert found("2026-04", None) == []
    assert found(None, None) == months[::-1]


def test_a_month_counts_once_for_an_insurance_and_not_at_all_while_it_is_owed() -> None:
    # Who moves from a company to a public body in the middle of a month is paid for twice.
    rows = [row("110", "2026-01"), row("120", "2026-01"), row("120", "2026-02", "backPaid"), row("310", "2026-01", "owed")]
    assert counted(rows) == ((Insurance.PENSION, 2),)
    assert counted([]) == ()


def test_a_record_is_as_old_as_its_oldest_report() -> None:
    older = AT.replace(year=2025)
    assert ContributionRecord((Report("a1", AT, ()), Report("b1", older, ()))).as_of == older


ROWS = st.lists(
    st.builds(
        Contribution,
        st.sampled_from(sorted(INSURANCES)),
        st.sampled_from([Month(f"2026-{n:02d}") for n in range(1, 13)]),
        st.just(1),
        st.just(1),
        st.just(1),
        st.sampled_from(STATUSES),
    ),
    unique_by=lambda one: (one.month, one.code),
    max_size=40,
)


@given(ROWS, st.integers(1, 9))
def test_pages_of_any_size_give_every_row_once_in_order(rows: list[Contribution], limit: int) -> None:
    whole = selected(record(*rows), Selection(ALL, None, None))
    assert sorted((one.row.month, one.row.code) for one in whole) == sorted((one.month, one.code) for one in rows)
    page, after = page_after(whole, None, limit)
    read = [*page]
    while after is not None:
        assert len(page) == limit
        page, after = page_after(whole, after, limit)
        read += page
    assert read == whole


@given(ROWS)
def test_a_page_goes_on_where_it_was_though_a_newer_month_has_come(rows: list[Contribution]) -> None:
    before = selected(record(*rows), Selection(ALL, None, None))
    newer = row("110", "2027-01")
    after = selected(record(*rows, newer), Selection(ALL, None, None))
    first, following = page_after(before, None, 5)
    if following is not None:
        rest, _ = page_after(after, following, 100)
        assert [*first, *rest] == before
