"""Insurance relations: who is insured in what, through whom, since when, and what became of it.

True here: a relation is one person's registration by one employer, or by themselves; it runs until it is ended, and is never
deleted. What a person has of each insurance is read off their relations at the moment of asking. Only death and emigration end
the insurance itself: after an employment it is kept, and nobody pays into it (Social Insurance Law, art. 14 to 16). Never
here: what somebody has paid, or is paid out; others keep those books.
"""

from asyncio import gather
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from service.ids import HolderId, InstitutionId, RegistrationId
from service.locale import Bilingual, Locale
from service.numbers import ResidentId
from service.operators import Institution

# Social Insurance Law, art. 58: an employer registers whom it has hired within so many days.
REGISTER_WITHIN: Final = 30
# Labour Law, art. 15.
WORKING_AGE: Final = 16


class Insurance(StrEnum):
    """The five social insurances."""

    PENSION = "pension"
    UNEMPLOYMENT = "unemployment"
    MEDICAL = "medical"
    WORK_INJURY = "workInjury"
    MATERNITY = "maternity"


# Codes of the insurances. 110 is the pension insurance of enterprises and of those who insure themselves, 120 that of public
# bodies for people in their established posts; which of the two somebody is in only their employer knows.
InsuranceCode = Literal["110", "120", "210", "310", "410", "510"]
PensionCode = Literal["110", "120"]
INSURANCES: Final[Mapping[InsuranceCode, Insurance]] = {
    "110": Insurance.PENSION,
    "120": Insurance.PENSION,
    "210": Insurance.UNEMPLOYMENT,
    "310": Insurance.MEDICAL,
    "410": Insurance.WORK_INJURY,
    "510": Insurance.MATERNITY,
}
# What people without an employer may register for by themselves (Social Insurance Law, art. 10 and 23).
SELF_INSURABLE: Final = frozenset({Insurance.PENSION, Insurance.MEDICAL})

# Why an employer ends a relation: the employment is over (left, dismissed, run out, retired), or the person died or emigrated.
LeavingReason = Literal["employmentEnded", "death", "emigration"]
# `employed`: somebody's own registration is over because an employer has registered them.
EndReason = LeavingReason | Literal["employed"]
FINAL: Final[frozenset[EndReason]] = frozenset({"death", "emigration"})

State = Literal["active", "suspended", "ended", "none"]
NewsName = Literal["registered", "widened", "ended"]
HiringFault = Literal["hired_in_future", "hired_before_birth", "under_working_age"]


@dataclass(frozen=True, slots=True)
class Cover:
    """One insurance of a relation, from its first day."""

    code: InsuranceCode
    since: date

    @property
    def insurance(self) -> Insurance:
        return INSURANCES[self.code]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a relation ended: its last day, when that was said, by whom (`op_…`, or `hld_…` of the person), and why."""

    on: date
    at: datetime
    by: str
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Relation:
    """One registration. `employer_id`: none for somebody who registered themselves; `number`: which it is between these two.

    `overdue_days`: by how many days it came too late; `request`: the mark of the request that made it, so that its retry finds
    its own work; `version` grows with every change and guards it.
    """

    registration_id: RegistrationId
    holder_id: HolderId
    employer_id: InstitutionId | None
    number: int
    region_code: str
    covers: tuple[Cover, ...]
    since: date
    registered_at: datetime
    overdue_days: int
    by: str
    request: bytes
    ending: Ending | None
    version: int

    @property
    def runs(self) -> bool:
        """Whether nobody has ended it."""
        return self.ending is None

    @property
    def insurances(self) -> frozenset[Insurance]:
        """What it is about."""
        return frozenset(cover.insurance for cover in self.covers)


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened to a relation, whose consequences are still to be drawn, and of which the person is to hear."""

    news_id: str
    name: NewsName
    relation: Relation
    locale: Locale


@dataclass(frozen=True, slots=True)
class Insured:
    """What a person has of one insurance: nothing but the insurance itself where they were never registered for it.

    `since`: its first day, or the last one of what is over.
    """

    insurance: Insurance
    state: State
    code: InsuranceCode | None = None
    since: date | None = None
    employer_id: InstitutionId | None = None
    region_code: str | None = None


class RelationStore(Protocol):
    """Where relations are kept."""

    async def relation(self, registration_id: RegistrationId) -> Relation | None:
        """One by id."""

    async def of_holder(self, holder_id: HolderId) -> list[Relation]:
        """A person's relations, newest first; of very many the newest."""

    async def add(self, relation: Relation, locale: Locale) -> bool:
        """Keep a new one, with the news of it; False when one with its id is there already."""

    async def change(self, before: Relation, after: Relation, locale: Locale) -> Relation | None:
        """The one write, of covers and ending, if it is as it was read; with the news of it. None when it is so no longer."""

    async def news(self, limit: int) -> list[News]:
        """Some that wait, in no order."""

    async def carried(self, news: News) -> None:
        """Take one off; taking it off again changes nothing."""


class EmployerStore(Protocol):
    """Where institutions are kept."""

    def institution(self, institution_id: InstitutionId) -> Awaitable[Institution | None]:
        """One by id."""


def overdue_days(hired_on: date, today: date) -> int:
    """By how many days a registration on a day comes too late: the thirtieth day after hiring is in time."""
    return max(0, (today - hired_on).days - REGISTER_WITHIN)


def hiring_fault(person: ResidentId, hired_on: date, today: date) -> HiringFault | None:
    """Why somebody cannot have been hired on a day."""
    if hired_on > today:
        return "hired_in_future"
    if hired_on < person.birth_date:
        return "hired_before_birth"
    return "under_working_age" if person.age_on(hired_on) < WORKING_AGE else None


def codes_of(insurances: Collection[Insurance], pension: PensionCode = "110") -> tuple[InsuranceCode, ...]:
    """The codes of some insurances, in their order."""
    other: InsuranceCode = "120" if pension == "110" else "110"
    return tuple(code for code, insurance in INSURANCES.items() if insurance in insurances and code != other)


def is_about(one: Relation, insurances: Iterable[Insurance]) -> bool:
    """Whether a relation is about any of these."""
    return not one.insurances.isdisjoint(insurances)


def has_ended(relations: Sequence[Relation]) -> bool:
    """Whether somebody's insurance has ended: none of their relations runs, and none began after one had ended for good.

    Somebody of whom no relation is known, such as a resident insured without work, is not among them.
    """
    endings = [relation.ending for relation in relations if relation.ending is not None]
    for_good = [ending.on for ending in endings if ending.reason in FINAL]
    if not for_good or len(endings) < len(relations):
        return False
    return all(relation.since <= max(for_good) for relation in relations)


def insured_in(relations: Sequence[Relation], insurance: Insurance) -> Insured:
    """What somebody with these relations has of an insurance.

    A relation that runs comes before one that is over, and an employment that runs before one's own registration; of what is
    over, the last counts.
    """
    about = [(relation, cover) for relation in relations for cover in relation.covers if cover.insurance is insurance]

    def weight(pair: tuple[Relation, Cover]) -> tuple[bool, bool, date]:
        relation, cover = pair
        return relation.runs, relation.runs and relation.employer_id is not None, _last_day(relation, cover)

    if not about:
        return Insured(insurance, "none")
    relation, cover = max(about, key=weight)
    over: State = "ended" if has_ended(relations) else "suspended"
    return Insured(
        insurance=insurance,
        state="active" if relation.runs else over,
        code=cover.code,
        since=_last_day(relation, cover),
        employer_id=relation.employer_id,
        region_code=relation.region_code,
    )


def _last_day(relation: Relation, cover: Cover) -> date:
    return cover.since if relation.ending is None else relation.ending.on


class Insurances:
    """What people are insured in."""

    def __init__(self, store: RelationStore, employers: EmployerStore) -> None:
        self._store = store
        self._employers = employers

    async def has_ended(self, holder_id: HolderId) -> bool:
        """Whether a person's insurance has ended: they get no new card, and their medical account is paid out."""
        return has_ended(await self._store.of_holder(holder_id))

    async def status(self, holder_id: HolderId) -> list[tuple[Insured, Bilingual | None]]:
        """What a person has of each insurance, in the order of the insurances, with the names of the employer."""
        relations = await self._store.of_holder(holder_id)
        found = [insured_in(relations, insurance) for insurance in Insurance]
        ids = {one.employer_id for one in found if one.employer_id is not None}
        known = await gather(*(self._employers.institution(employer_id) for employer_id in ids))
        names = {employer.institution_id: employer.names for employer in known if employer is not None}
        return [(one, names.get(one.employer_id) if one.employer_id else None) for one in found]
