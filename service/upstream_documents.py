"""The documents in which a city answers, and the border at which they are judged: docs/look-ups.md has them for bridges.

True here: a document is taken whole or not at all. It must be about the person who was asked about, in the right types, without
a figure that cannot be (less than nothing, more than there is, from the future, twice), or nobody ever sees any of it. Never
here: what was wrong in the words of who sent it; a fault is a word of ours.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, TypeVar

import orjson
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from service.balances import Account, Figure
from service.cards import MedicalStatus
from service.contributions import MONTH_PATTERN, Contribution, ContributionRecord, ContributionStatus, Month, Report
from service.gateways.upstream import MOST_BYTES, UpstreamWrong, Whose
from service.housing_funds import HousingFund, HousingFundAccount, HousingFundStatus
from service.insurance import InsuranceCode
from service.strict_toml import strict_shape

# Somebody's clock may be a little ahead of ours.
_AHEAD: Final = timedelta(minutes=5)
# Sixty years of five insurances.
MOST_ROWS: Final = 3600
# Ten thousand million yuan: whoever has that does not look it up here.
_MOST_FEN: Final = 10**12

_STATUSES: Final = {
    Account.MEDICAL: frozenset(map(str, MedicalStatus)),
    Account.PENSION: frozenset(map(str, MedicalStatus)),
    Account.HOUSING_FUND: frozenset(map(str, HousingFundStatus)) | {str(MedicalStatus.UNOPENED)},
}


_Fen = Annotated[int, Field(ge=0, le=_MOST_FEN)]
_Source = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{1,63}$")]
_Month = Annotated[str, Field(pattern=MONTH_PATTERN)]


@strict_shape
@dataclass(frozen=True, slots=True)
class _Figure:
    account: Account
    balanceFen: _Fen
    status: str
    asOf: AwareDatetime
    source: _Source


@strict_shape
@dataclass(frozen=True, slots=True)
class _Figures:
    idNumber: str = field(repr=False)
    figures: Annotated[list[_Figure], Field(max_length=len(Account))]


@strict_shape
@dataclass(frozen=True, slots=True)
class _Row:
    code: InsuranceCode
    month: _Month
    baseFen: _Fen
    personalFen: _Fen
    employerFen: _Fen
    status: ContributionStatus


@strict_shape
@dataclass(frozen=True, slots=True)
class _Report:
    source: _Source
    asOf: AwareDatetime
    rows: Annotated[list[_Row], Field(max_length=MOST_ROWS)]


@strict_shape
@dataclass(frozen=True, slots=True)
class _Contributions:
    idNumber: str = field(repr=False)
    reports: Annotated[list[_Report], Field(min_length=1, max_length=8)]


@strict_shape
@dataclass(frozen=True, slots=True)
class _Account:
    number: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{4,40}$", repr=False)]
    status: HousingFundStatus
    balanceFen: _Fen
    monthlyDepositFen: _Fen
    paidThrough: _Month | None
    openedOn: date | None


@strict_shape
@dataclass(frozen=True, slots=True)
class _HousingFund:
    idNumber: str = field(repr=False)
    source: _Source
    asOf: AwareDatetime
    account: _Account | None


ShapeT = TypeVar("ShapeT", _Figures, _Contributions, _HousingFund)
_FIGURES: Final = TypeAdapter(_Figures)
_CONTRIBUTIONS: Final = TypeAdapter(_Contributions)
_HOUSING_FUND: Final = TypeAdapter(_HousingFund)


def read_figures(document: bytes, whose: Whose, now: datetime) -> tuple[Figure, ...]:
    """Somebody's balances; none for somebody of whom the city has no books. Raises UpstreamWrong."""
    told = _shaped(_FIGURES, document, whose)
    _once(one.account for one in told.figures)
    if any(one.status not in _STATUSES[one.account] for one in told.figures):
        raise UpstreamWrong("status")
    return tuple(Figure(one.account, one.balanceFen, one.status, _moment(one.asOf, now), one.source) for one in told.figures)


def read_contributions(document: bytes, whose: Whose, now: datetime) -> ContributionRecord:
    """Somebody's contributions. Raises UpstreamWrong."""
    told = _shaped(_CONTRIBUTIONS, document, whose)
    _once((row.month, row.code) for report in told.reports for row in report.rows)
    return ContributionRecord(
        tuple(Report(one.source, _moment(one.asOf, now), tuple(map(_contribution, one.rows))) for one in told.reports)
    )


def _contribution(row: _Row) -> Contribution:
    return Contribution(row.code, Month(row.month), row.baseFen, row.personalFen, row.employerFen, row.status)


def read_housing_fund(document: bytes, whose: Whose, now: datetime) -> HousingFund:
    """Somebody's housing fund, or that they have none. Raises UpstreamWrong."""
    told = _shaped(_HOUSING_FUND, document, whose)
    account = told.account
    return HousingFund(
        source=told.source,
        as_of=_moment(told.asOf, now),
        account=None
        if account is None
        else HousingFundAccount(
            number=account.number,
            status=account.status,
            balance_fen=account.balanceFen,
            monthly_deposit_fen=account.monthlyDepositFen,
            paid_through=None if account.paidThrough is None else Month(account.paidThrough),
            opened_on=account.openedOn,
        ),
    )


def _shaped(adapter: TypeAdapter[ShapeT], document: bytes, whose: Whose) -> ShapeT:
    if len(document) > MOST_BYTES:
        raise UpstreamWrong("tooLarge")
    try:
        told = adapter.validate_json(document)
    except ValidationError:
        raise UpstreamWrong("shape") from None
    if told.idNumber != whose.id_number:
        raise UpstreamWrong("person")
    return told


def _once(keys: Iterable[object]) -> None:
    every: Sequence[object] = [*keys]
    if len(set(every)) != len(every):
        raise UpstreamWrong("twice")


def _moment(told: datetime, now: datetime) -> datetime:
    """A moment as we keep moments. Raises UpstreamWrong for one that has not been."""
    moment = told.astimezone(UTC)
    if moment > now + _AHEAD:
        raise UpstreamWrong("future")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def figures_document(figures: Iterable[Figure], whose: Whose) -> bytes:
    """The document of these figures."""
    return orjson.dumps(
        {
            "idNumber": whose.id_number,
            "figures": [
                {
                    "account": one.account,
                    "balanceFen": one.balance_fen,
                    "status": one.status,
                    "asOf": one.as_of,
                    "source": one.source,
                }
                for one in figures
            ],
        }
    )


def contributions_document(record: ContributionRecord, whose: Whose) -> bytes:
    """The document of these contributions."""
    return orjson.dumps(
        {
            "idNumber": whose.id_number,
            "reports": [
                {
                    "source": report.source,
                    "asOf": report.as_of,
                    "rows": [
                        {
                            "code": row.code,
                            "month": row.month,
                            "baseFen": row.base_fen,
                            "personalFen": row.personal_fen,
                            "employerFen": row.employer_fen,
                            "status": row.status,
                        }
                        for row in report.rows
                    ],
                }
                for report in record.reports
            ],
        }
    )


def housing_fund_document(fund: HousingFund, whose: Whose) -> bytes:
    """The document of this housing fund."""
    account = fund.account
    return orjson.dumps(
        {
            "idNumber": whose.id_number,
            "source": fund.source,
            "asOf": fund.as_of,
            "account": None
            if account is None
            else {
                "number": account.number,
                "status": account.status,
                "balanceFen": account.balance_fen,
                "monthlyDepositFen": account.monthly_deposit_fen,
                "paidThrough": account.paid_through,
                "openedOn": account.opened_on,
            },
        }
    )


RecordT = TypeVar("RecordT")
Read = Callable[[bytes, Whose, datetime], RecordT]
Write = Callable[[RecordT, Whose], bytes]
