"""Contributions on the wire: what was paid into each insurance, by month.

True here: money is whole fen, and the same as people read it beside it; a month is `2026-10`. Never here: a row without its
moment and its source.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.wire import Instant, OnBehalfOf, PageQuery, View
from service.contributions import MONTH_PATTERN, ContributionPage, ContributionStatus, Month, Reported, Selection, codes_named
from service.errors import invalid
from service.insurance import Insurance, InsuranceCode
from service.masking import display_fen

# The insurances by name, or by one of their codes.
InsuranceName = Literal[
    "pension", "unemployment", "medical", "workInjury", "maternity", "110", "120", "210", "310", "410", "510"
]
_MONTH: Final = Field(pattern=MONTH_PATTERN, examples=["2026-10"])
MonthText = Annotated[str, _MONTH]


class ContributionsQuery(PageQuery):
    """Which contributions, of whom. `from` and `to` are months, both included; without them it is all there are."""

    type: InsuranceName | None = None
    from_month: Annotated[str | None, Field(alias="from", pattern=MONTH_PATTERN, examples=["2026-01"])] = None
    to_month: Annotated[str | None, Field(alias="to", pattern=MONTH_PATTERN, examples=["2026-10"])] = None
    on_behalf_of: OnBehalfOf = None

    def wanted(self) -> Selection:
        """The rows that are meant. Refuses with `invalid_request` for months in the wrong order."""
        first, last = self.from_month, self.to_month
        if first is not None and last is not None and first > last:
            raise invalid("to", "not_allowed")
        return Selection(
            codes=codes_named(self.type),
            first=None if first is None else Month(first),
            last=None if last is None else Month(last),
        )


class ContributionView(View):
    """One insurance in one month: what it was reckoned from, the person's own part, the employer's part.

    `status`: `paid` in its month, `backPaid` later, `owed`: due and not paid.
    """

    type: Insurance
    code: InsuranceCode
    month: MonthText
    base_fen: int
    base_display: str
    personal_fen: int
    personal_display: str
    employer_fen: int
    employer_display: str
    currency: Literal["CNY"]
    status: ContributionStatus
    as_of: Instant
    source: str


class MonthsView(View):
    """How many months count for an insurance, among all that were asked for."""

    type: Insurance
    months: int


class ContributionsView(View):
    """Contributions, newest month first, and how many months count. `asOf` is the oldest moment of any report.

    `stale`: the city did not confirm it just now, or it is older than the region calls fresh.
    """

    items: list[ContributionView]
    next_cursor: str | None
    has_more: bool
    months: list[MonthsView]
    as_of: Instant
    stale: bool


def contributions_view(page: ContributionPage, following: str | None) -> ContributionsView:
    return ContributionsView(
        items=[_contribution_view(reported) for reported in page.rows],
        next_cursor=following,
        has_more=following is not None,
        months=[MonthsView(type=insurance, months=count) for insurance, count in page.months],
        as_of=page.as_of,
        stale=page.stale,
    )


def _contribution_view(reported: Reported) -> ContributionView:
    row = reported.row
    return ContributionView(
        type=row.insurance,
        code=row.code,
        month=row.month,
        base_fen=row.base_fen,
        base_display=display_fen(row.base_fen),
        personal_fen=row.personal_fen,
        personal_display=display_fen(row.personal_fen),
        employer_fen=row.employer_fen,
        employer_display=display_fen(row.employer_fen),
        currency="CNY",
        status=row.status,
        as_of=reported.as_of,
        source=reported.source,
    )
