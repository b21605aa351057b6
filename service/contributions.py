"""Contributions: what was paid for somebody into each social insurance, month by month.

True here: the books are the city's; what stands here is what it said, with the moment of which it is true and who said it. A
month has one row for each code. Months are months of the calendar, written `2026-10`, and sort as they are written. Never
here: a month that nobody reported, arithmetic on money, or a row that says nothing about its source.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final, Literal, NewType, get_args

from service.ids import HolderId
from service.insurance import INSURANCES, Insurance, InsuranceCode
from service.last_known import LastKnown, Shown

Month = NewType("Month", str)
# From 1951, when the country's first labour insurance began, to the end of the century after this.
MONTH_PATTERN: Final = r"^(19[5-9][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])$"

# Paid in its month; paid later; due and not paid.
ContributionStatus = Literal["paid", "backPaid", "owed"]
STATUSES: Final[tuple[ContributionStatus, ...]] = get_args(ContributionStatus)
# A month that was paid for counts, whenever that was done; one that is owed does not.
COUNTS: Final[frozenset[ContributionStatus]] = frozenset({"paid", "backPaid"})


@dataclass(frozen=True, slots=True)
class Contribution:
    """One insurance in one month. Amounts in fen: what it was reckoned from, the person's own part, the employer's part."""

    code: InsuranceCode
    month: Month
    base_fen: int
    personal_fen: int
    employer_fen: int
    status: ContributionStatus

    @property
    def insurance(self) -> Insurance:
        return INSURANCES[self.code]


@dataclass(frozen=True, slots=True)
class Report:
    """Rows from one office, all true of one moment. Medical insurance often has an office of its own."""

    source: str
    as_of: datetime
    rows: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class ContributionRecord:
    """All that is known of a person's contributions; there is a report also of who has none."""

    reports: tuple[Report, ...]

    @property
    def as_of(self) -> datetime:
        """The oldest of the reports' moments."""
        return min(report.as_of for report in self.reports)


@dataclass(frozen=True, slots=True)
class Reported:
    """A row with what its report says of all its rows."""

    row: Contribution
    source: str
    as_of: datetime

    @property
    def place(self) -> "Place":
        return self.row.month, self.row.code


Place = tuple[Month, InsuranceCode]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are wanted: of these codes, from one month to another, both included; None is no bound."""

    codes: frozenset[InsuranceCode]
    first: Month | None
    last: Month | None

    def has(self, row: Contribution) -> bool:
        """Whether a row is wanted."""
        return (
            row.code in self.codes
            and (self.first is None or self.first <= row.month)
            and (self.last is None or row.month <= self.last)
        )


@dataclass(frozen=True, slots=True)
class ContributionPage:
    """Some rows, newest month first and the codes of a month in their order.

    `months`: how many months count for each insurance among all that were wanted, not only on this page; an insurance without
    any is not in it. `after`: where the next page begins, None at the end.
    """

    rows: tuple[Reported, ...]
    months: tuple[tuple[Insurance, int], ...]
    after: Place | None
    as_of: datetime
    stale: bool


def codes_named(name: str | None) -> frozenset[InsuranceCode]:
    """The codes that somebody means by the name of an insurance, by a code, or by nothing: then all."""
    return frozenset(code for code, insurance in INSURANCES.items() if name is None or name in {code, insurance})


def selected(record: ContributionRecord, wanted: Selection) -> list[Reported]:
    """The wanted rows, newest month first, and in a month by code."""
    rows = [Reported(row, one.source, one.as_of) for one in record.reports for row in one.rows if wanted.has(row)]
    # Backwards by month, and forwards by code within one: sorting is stable.
    rows.sort(key=attrgetter("row.code"))
    rows.sort(key=attrgetter("row.month"), reverse=True)
    return rows


def counted(rows: Iterable[Contribution]) -> tuple[tuple[Insurance, int], ...]:
    """How many months count for each insurance; a month with two codes of one insurance is one month."""
    months: dict[Insurance, set[Month]] = {}
    for row in rows:
        if row.status in COUNTS:
            months.setdefault(row.insurance, set()).add(row.month)
    return tuple((insurance, len(months[insurance])) for insurance in Insurance if insurance in months)


def page_after(rows: Sequence[Reported], after: Place | None, limit: int) -> tuple[tuple[Reported, ...], Place | None]:
    """The rows that come after a place, at most `limit`, and where the next page begins."""
    begin = 0
    if after is not None:
        month, code = after
        begin = sum(1 for one in rows if one.row.month > month or (one.row.month == month and one.row.code <= code))
    page = tuple(rows[begin : begin + limit])
    return page, page[-1].place if begin + limit < len(rows) else None


class Contributions:
    """Looking at contributions."""

    def __init__(self, records: LastKnown[ContributionRecord]) -> None:
        self._records = records

    async def page(self, holder_id: HolderId, wanted: Selection, after: Place | None, limit: int) -> ContributionPage:
        """A page of a person's contributions, as the city has them now, or marked as last known.

        Refuses with `unavailable` when the city does not answer and nothing is known from before.
        """
        # The pages of one look are of one record, as far as that goes.
        shown: Shown[ContributionRecord] = await self._records.of(holder_id, going_on=after is not None)
        rows = selected(shown.record, wanted)
        page, following = page_after(rows, after, limit)
        return ContributionPage(
            rows=page,
            months=counted(one.row for one in rows),
            after=following,
            as_of=shown.record.as_of,
            stale=shown.stale,
        )
