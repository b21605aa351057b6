"""Insurance on the wire: whom an employer registers, what people register for themselves, and what they have of each insurance.

True here: the form of a request is judged as a whole; what stands in a row is judged with that row, and the others are none the
worse for it. Never here: a value of a row in its answer.
"""

import re
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.numbers import Name
from schemas.wire import Body, Day, Instant, View
from service.insurance import (
    INSURANCES,
    Insurance,
    InsuranceCode,
    Insured,
    LeavingReason,
    PensionCode,
    Relation,
    State,
    codes_of,
)
from service.locale import Bilingual, Locale, text
from service.numbers import InvalidNumber, parse_resident_id
from service.registrations import MOST_ROWS, Hiring, Result, RowAnswer, Unreadable

_NAME: Final = TypeAdapter[str](Name)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST: Final = 128
# What is known comes from the register of relations that this service keeps itself.
_SOURCE: Final = "insuranceRegister"


def _day(value: str) -> date:
    if not _DAY.fullmatch(value):
        raise ValueError("not a day")
    return date.fromisoformat(value)


def _sent_day(value: Any) -> date:  # noqa: ANN401  it comes from the wire and may be anything
    if not isinstance(value, str):
        raise PydanticCustomError("yika.wrong_type", "wrong type")
    try:
        return _day(value)
    except ValueError:
        raise PydanticCustomError("yika.day_format", "not a day") from None


SentDay = Annotated[
    date,
    PlainValidator(_sent_day),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-20"]}),
]
_Text = Annotated[str, Field(max_length=_LONGEST)]
_RegionCode = Annotated[str, Field(pattern=r"^[0-9]{6}$", examples=["990100"])]
_Insurances = Annotated[list[Insurance], Field(min_length=1, max_length=len(Insurance))]


class HiringRow(Body):
    """Somebody who was hired. What cannot be read as a name, number or day is the row's own refusal.

    `insurances`: all five unless some are named; `pensionCode`: 120 for the established posts of public bodies.
    """

    name: Annotated[_Text, Field(examples=["张伟"])]
    id_number: Annotated[_Text, Field(examples=["11010519491231002X"])]
    hired_on: Annotated[_Text, Field(examples=["2026-11-01"], description="The day of hiring, as 2026-11-01.")]
    insurances: _Insurances | None = None
    pension_code: PensionCode = "110"

    def hiring(self, today: date) -> Hiring | Unreadable:
        """What the row says, or the first thing in it that is no such thing."""
        try:
            name = _NAME.validate_python(self.name, strict=True)
        except ValidationError:
            return Unreadable("name_format")
        try:
            id_number = parse_resident_id(self.id_number, today=today)
        except InvalidNumber as fault:
            return Unreadable(f"resident_id_{fault.code}")
        try:
            hired_on = _day(self.hired_on)
        except ValueError:
            return Unreadable("day_format")
        wanted = frozenset(self.insurances or Insurance)
        return Hiring(name, id_number, hired_on, codes_of(wanted, self.pension_code))


class EmployeeRegistrations(Body):
    """People to register. `regionCode`: one of the employer's; it may be left out where there is but one."""

    region_code: _RegionCode | None = None
    rows: Annotated[list[HiringRow], Field(min_length=1, max_length=MOST_ROWS)]


class EmploymentEnd(Body):
    """The last day of an employment, and why: `employmentEnded` for whatever ends it while the insurance is kept."""

    ended_on: SentDay
    reason: LeavingReason


class SelfRegistration(Body):
    """What somebody without an employer registers for; in their region of insurance unless another is named."""

    region_code: _RegionCode | None = None
    insurances: Annotated[list[Literal["pension", "medical"]], Field(min_length=1, max_length=2)]

    def wanted(self) -> frozenset[Insurance]:
        return frozenset(map(Insurance, self.insurances))


class RegistrationRowView(View):
    """What became of a row, counted from 1. `overdueDays`: by how many days it came after the thirtieth since hiring."""

    row: int
    result: Result
    registration_id: str | None
    overdue_days: int
    code: str | None
    message: str | None


class RegistrationRowsView(View):
    """What became of each row, in their order."""

    items: list[RegistrationRowView]


class CoverView(View):
    """One insurance of a registration, from its first day."""

    type: Insurance
    code: InsuranceCode
    since: Day


class RegistrationView(View):
    """A registration for social insurance. `endedOn` and `endReason` are null while it runs."""

    registration_id: str
    region_code: str
    insurances: list[CoverView]
    since: Day
    registered_at: Instant
    overdue_days: int
    ended_on: Day | None
    end_reason: str | None


class InsuredView(View):
    """What I have of one insurance. All but type, state, time and source are null for what I was never registered for.

    `since`: the first day of an active one, the last day of another; `employer` is null for one of my own.
    """

    type: Insurance
    code: InsuranceCode | None
    state: State
    since: Day | None
    employer: str | None
    region_code: str | None
    as_of: Instant
    source: str


class InsuranceStatusView(View):
    """What I have of each of the five insurances."""

    items: list[InsuredView]


def rows_view(answers: list[RowAnswer], locale: Locale) -> RegistrationRowsView:
    return RegistrationRowsView(
        items=[
            RegistrationRowView(
                row=answer.row,
                result=answer.result,
                registration_id=answer.registration_id,
                overdue_days=answer.overdue_days,
                code=answer.code,
                message=text(locale, f"fields.{answer.code}") if answer.code else None,
            )
            for answer in answers
        ]
    )


def registration_view(relation: Relation) -> RegistrationView:
    ending = relation.ending
    return RegistrationView(
        registration_id=relation.registration_id,
        region_code=relation.region_code,
        insurances=[CoverView(type=INSURANCES[c.code], code=c.code, since=c.since) for c in relation.covers],
        since=relation.since,
        registered_at=relation.registered_at,
        overdue_days=relation.overdue_days,
        ended_on=ending.on if ending else None,
        end_reason=ending.reason if ending else None,
    )


def status_view(insured: list[tuple[Insured, Bilingual | None]], now: datetime, locale: Locale) -> InsuranceStatusView:
    return InsuranceStatusView(
        items=[
            InsuredView(
                type=one.insurance,
                code=one.code,
                state=one.state,
                since=one.since,
                employer=employer.read_in(locale) if employer else None,
                region_code=one.region_code,
                as_of=now,
                source=_SOURCE,
            )
            for one, employer in insured
        ]
    )
