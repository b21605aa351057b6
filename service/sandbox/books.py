"""What the invented offices of the sandbox have in their books about a persona: contributions and the housing fund.

True here: the same amounts on every machine and after every reset, drawn from the persona's key, and months that follow from
one moment. The balances on cards agree with these books. Never here: a rate or a rule of a real city; only who pays which part
is taken from life.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random
from typing import Final

from service.clock import CHINA
from service.contributions import Contribution, ContributionRecord, ContributionStatus, Month, Report
from service.housing_funds import HousingFundAccount, HousingFundStatus
from service.insurance import InsuranceCode
from service.sandbox.personas import Person
from service.sandbox.roster import HIRED_DAYS_AGO, LEFT_DAYS_AGO

SOCIAL: Final = "socialInsuranceBureau"
MEDICAL: Final = "medicalInsuranceBureau"
HOUSING: Final = "housingFundCentre"

# Of the base in thousandths: the person's part and the employer's.
_PARTS: Final[dict[InsuranceCode, tuple[int, int]]] = {
    "110": (80, 160),
    "210": (5, 5),
    "310": (20, 85),
    "410": (0, 2),
    "510": (0, 7),
}
_MEDICAL_CODES: Final = frozenset({"310", "510"})
_RAISE: Final = 105
# What a resident without work pays for a year of medical insurance; the year's row stands at its January.
_YEARLY_FEN: Final = 38_000
_YEARS: Final = 4
_ENDED: Final = frozenset({HousingFundStatus.CLOSED, HousingFundStatus.TRANSFERRED})


def _chance(person: Person, about: str) -> Random:
    return Random(f"{person.key}\0{about}")  # noqa: S311  invented people must be the same every time


def _month(day: date) -> Month:
    return Month(f"{day.year}-{day.month:02d}")


def _months(first: date, last: date) -> Iterator[date]:
    """The first days of the months from one day's to the other's."""
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = (month + timedelta(days=31)).replace(day=1)


def contributions_of(person: Person, now: datetime, as_of: datetime, *, grown_up: bool) -> ContributionRecord:
    """What was paid in for a persona until the month before this one, as of a moment."""
    today = now.astimezone(CHINA).date()
    rows = tuple(_rows(person, today, grown_up=grown_up))
    return ContributionRecord(
        (
            Report(SOCIAL, as_of, tuple(row for row in rows if row.code not in _MEDICAL_CODES)),
            Report(MEDICAL, as_of, tuple(row for row in rows if row.code in _MEDICAL_CODES)),
        )
    )


def _rows(person: Person, today: date, *, grown_up: bool) -> Iterator[Contribution]:
    if not grown_up:
        for year in range(today.year - _YEARS + 1, today.year + 1):
            yield Contribution("310", Month(f"{year}-01"), 0, _YEARLY_FEN, 0, "paid")
        return
    if person.employment is None:
        return
    hired = today - timedelta(days=HIRED_DAYS_AGO)
    over = person.employment.state != "runs"
    last = today - timedelta(days=LEFT_DAYS_AGO) if over else today.replace(day=1) - timedelta(days=1)
    base = _chance(person, "base").randrange(500_000, 1_800_000, 1000)
    months = list(_months(hired, last))
    for number, month in enumerate(months):
        if number and month.month == 7:  # noqa: PLR2004  bases are set anew each July
            base = base * _RAISE // 100
        status: ContributionStatus = "backPaid" if number == 1 else "paid"
        if over and number == len(months) - 1:
            status = "owed"
        for code, (own, others) in _PARTS.items():
            yield Contribution(code, _month(month), base, base * own // 1000, base * others // 1000, status)


def housing_status(person: Person) -> HousingFundStatus:
    """In which state a persona's housing fund account is."""
    if person.employment is not None and person.employment.state != "runs":
        return HousingFundStatus.SEALED if person.employment.state == "left" else HousingFundStatus.CLOSED
    condition = person.cards[0].condition
    if condition == "cancelled":
        return HousingFundStatus.TRANSFERRED
    return HousingFundStatus.FROZEN if condition == "locked" else HousingFundStatus.NORMAL


def housing_balance(person: Person, fen: int) -> int:
    """What is in it, of an invented amount: nothing once it has ended."""
    return 0 if housing_status(person) in _ENDED else fen


def housing_account(person: Person, now: datetime, fen: int, *, grown_up: bool) -> HousingFundAccount | None:
    """A persona's account with this much in it; a minor has none."""
    if not grown_up:
        return None
    status = housing_status(person)
    today = now.astimezone(CHINA).date()
    paid = today.replace(day=1) - timedelta(days=1)
    chance = _chance(person, "housing")
    number = f"99{chance.randrange(10**10):010d}"
    # Two equal parts.
    monthly = 2 * chance.randrange(30_000, 240_000, 100)
    return HousingFundAccount(
        number=number,
        status=status,
        balance_fen=fen,
        monthly_deposit_fen=monthly if status is HousingFundStatus.NORMAL else 0,
        paid_through=_month(paid if status is HousingFundStatus.NORMAL else today - timedelta(days=LEFT_DAYS_AGO)),
        opened_on=today - timedelta(days=HIRED_DAYS_AGO),
    )
