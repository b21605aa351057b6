"""Registering people for social insurance, by their employer or by themselves, and ending a registration.

True here: of a person and an employer one registration runs at a time, however many requests want one; whoever asks again,
also after a crash in the middle of a hundred rows, is told what is there. Every row is answered by itself. A late registration
is accepted and says by how many days. A person whom nobody knows yet is made as an import makes one. Whatever an employer does
about somebody is written down for them first. Never here: what follows for cards and who is told; that is carried
(insurance_errands.py).
"""

from asyncio import Semaphore, gather
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal

from service.clock import CHINA, Clock
from service.errors import Refusal, invalid
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import HolderId, InstitutionId, RegistrationId, derived_id, is_id
from service.insurance import (
    SELF_INSURABLE,
    WORKING_AGE,
    Cover,
    Ending,
    Insurance,
    InsuranceCode,
    LeavingReason,
    Relation,
    RelationStore,
    codes_of,
    hiring_fault,
    is_about,
    overdue_days,
)
from service.insurance_errands import InsuranceErrands
from service.limits import Limit, Limits
from service.locale import Locale
from service.newcomers import Named, Newcomers
from service.numbers import ResidentId, parse_resident_id
from service.operators import Institution, Operator
from service.regions import Regions

MOST_ROWS: Final = 100
# Ten thousand people a day are those of a large employer, and nobody's whole book of ID numbers.
REQUESTS: Final = Limit("registrations/bulk", 100, timedelta(days=1))
# Rows of one request that are registered at the same time.
_SIDE_BY_SIDE: Final = 8
# Somebody else registered the same person at this instant; more than a few times in a row is not chance.
_ROUNDS: Final = 5

Result = Literal["registered", "alreadyRegistered", "refused"]


@dataclass(frozen=True, slots=True)
class Hiring:
    """One person whom an employer has hired, and what to register them for."""

    name: str
    id_number: ResidentId
    hired_on: date
    codes: tuple[InsuranceCode, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row with something in it that is no such thing; `code` says what, as the field's texts do."""

    code: str


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What became of a row, counted from 1. `code`: why it was refused."""

    row: int
    result: Result
    registration_id: RegistrationId | None = None
    overdue_days: int = 0
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Filing:
    """What an employer's clerk files: by whom, in which keyed request, and in which language people are told."""

    by: Operator
    request: bytes
    locale: Locale


class Registrations:
    """The verbs: registering and ending."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: RelationStore,
        people: HolderStore,
        newcomers: Newcomers,
        limits: Limits,
        log: AccessLogStore,
        errands: InsuranceErrands,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._store = store
        self._people = people
        self._newcomers = newcomers
        self._limits = limits
        self._log = log
        self._errands = errands
        self._regions = regions
        self._clock = clock

    async def register_employees(
        self, filing: Filing, region_code: str | None, rows: Sequence[Hiring | Unreadable]
    ) -> list[RowAnswer]:
        """Register people with the operator's employer, each row answered by itself, in their order.

        A person twice in one request is registered by the first of the rows. Refuses with `channel_not_allowed` for a region
        that is not the employer's, with `invalid_request` when it has several and none is named, and with `rate_limited`.
        """
        region = _region_of(filing.by.institution, region_code)
        await self._limits.hit(REQUESTS, filing.by.operator_id)
        by_person: defaultdict[str, list[tuple[int, Hiring]]] = defaultdict(list)
        answers: dict[int, RowAnswer] = {}
        for number, row in enumerate(rows, start=1):
            if isinstance(row, Unreadable):
                answers[number] = RowAnswer(number, "refused", code=row.code)
            else:
                by_person[row.id_number.number].append((number, row))
        room = Semaphore(_SIDE_BY_SIDE)

        async def register(own: list[tuple[int, Hiring]]) -> None:
            async with room:
                for number, row in own:
                    answers[number] = await self._register(filing, region, number, row)

        # All of them end before the first failure is told, so that none goes on behind the answer.
        for outcome in await gather(*map(register, by_person.values()), return_exceptions=True):
            if outcome is not None:
                raise outcome
        return [answers[number] for number in sorted(answers)]

    async def _register(self, filing: Filing, region_code: str, number: int, row: Hiring) -> RowAnswer:
        now = self._clock.now()
        today, employer = now.astimezone(CHINA).date(), filing.by.institution.institution_id
        if fault := hiring_fault(row.id_number, row.hired_on, today):
            return RowAnswer(number, "refused", code=fault)
        try:
            # Nobody has told us a mobile, so somebody new verifies by face, or tells it at a bureau.
            holder = await self._newcomers.known_or_new(Named(row.name, row.id_number, ""), region_code)
        except Refusal as refusal:
            if not refusal.errors:
                raise
            return RowAnswer(number, "refused", code=refusal.errors[0].code)
        mark = row_mark(filing.request, number)
        await self._record(filing, holder.holder_id, "registerInsurance", mark)
        for _ in range(_ROUNDS):
            before = [one for one in await self._store.of_holder(holder.holder_id) if one.employer_id == employer]
            own = next((one for one in before if one.request == mark), None)
            there = own or next((one for one in before if one.runs), None)
            if there is not None:
                result: Result = "registered" if own else "alreadyRegistered"
                return RowAnswer(number, result, there.registration_id, there.overdue_days)
            # An old list sent again brings nobody back who has left.
            if any(one.ending is not None and row.hired_on <= one.ending.on for one in before):
                return RowAnswer(number, "refused", code="employment_ended")
            made = Relation(
                registration_id=registration_id_of(holder.holder_id, employer, _next_number(before)),
                holder_id=holder.holder_id,
                employer_id=employer,
                number=_next_number(before),
                region_code=region_code,
                covers=tuple(Cover(code, row.hired_on) for code in row.codes),
                since=row.hired_on,
                registered_at=now,
                overdue_days=overdue_days(row.hired_on, today),
                by=filing.by.operator_id,
                request=mark,
                ending=None,
                version=1,
            )
            if await self._store.add(made, filing.locale):
                return RowAnswer(number, "registered", made.registration_id, made.overdue_days)
        raise Refusal("unavailable", retry_after=1)

    async def _record(self, filing: Filing, holder_id: HolderId, action: str, mark: bytes) -> None:
        """Once for a row or a request, however often that comes."""
        clerk = filing.by
        where = clerk.institution.institution_id
        access_id = derived_id("acc", mark.hex(), action)
        access = Access(access_id, self._clock.now(), action, clerk.role, "employer", where, clerk.operator_id)
        await self._log.record(holder_id, access)

    async def end_employment(self, filing: Filing, registration_id: str, last_day: date, reason: LeavingReason) -> Relation:
        """End a registration of the operator's employer; one that is over stays as it is and is the answer.

        Refuses with `not_found`, also for another employer's; with `invalid_request` for a day before the hiring or in the
        future.
        """
        for _ in range(_ROUNDS):
            found = await self._store.relation(RegistrationId(registration_id)) if is_id("reg", registration_id) else None
            if found is None or found.employer_id != filing.by.institution.institution_id:
                raise Refusal("not_found")
            if found.ending is not None:
                return found
            now = self._clock.now()
            if last_day > now.astimezone(CHINA).date():
                raise invalid("endedOn", "in_future")
            if last_day < found.since:
                raise invalid("endedOn", "before_hiring")
            await self._record(filing, found.holder_id, "endInsurance", filing.request)
            ending = Ending(last_day, now, filing.by.operator_id, reason)
            if (ended := await self._store.change(found, replace(found, ending=ending), filing.locale)) is not None:
                await self._errands.settle(ended.holder_id, filing.locale)
                return ended
        raise Refusal("unavailable", retry_after=1)

    async def register_oneself(
        self, holder_id: HolderId, region_code: str | None, insurances: Collection[Insurance], request: bytes, locale: Locale
    ) -> Relation:
        """Register for pension or medical insurance without an employer; what runs already is the answer, and is widened.

        Refuses with `under_working_age`, with `already_insured` while an employer insures the person in any of it, and with
        `invalid_request` for a region that is not served.
        """
        now = self._clock.now()
        today = now.astimezone(CHINA).date()
        region = await self._admit(holder_id, region_code, insurances, today)
        covers = tuple(Cover(code, today) for code in codes_of(insurances))
        for _ in range(_ROUNDS):
            relations = await self._store.of_holder(holder_id)
            if _employment_in(relations, insurances):
                raise Refusal("already_insured")
            own = [one for one in relations if one.employer_id is None]
            running = next((one for one in own if one.runs), None)
            if running is not None and running.insurances.issuperset(insurances):
                return running
            fresh = Relation(
                registration_id=registration_id_of(holder_id, None, _next_number(own)),
                holder_id=holder_id,
                employer_id=None,
                number=_next_number(own),
                region_code=region,
                covers=covers,
                since=today,
                registered_at=now,
                overdue_days=0,
                by=holder_id,
                request=request,
                ending=None,
                version=1,
            )
            made = await self._keep(running, fresh, locale)
            if made is None:
                continue
            # An employer may have registered the person since we looked. Whoever comes second sees the other.
            if _employment_in(await self._store.of_holder(holder_id), insurances):
                await self._errands.settle(holder_id, locale)
                raise Refusal("already_insured")
            return made
        raise Refusal("unavailable", retry_after=1)

    async def _admit(self, holder_id: HolderId, region_code: str | None, insurances: Collection[Insurance], today: date) -> str:
        """In which region somebody is to register for these, when they may."""
        holder = await self._people.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        if not SELF_INSURABLE.issuperset(insurances):
            raise invalid("insurances", "not_allowed")
        region = region_code or holder.region_code
        if region not in self._regions.by_code:
            raise invalid("regionCode", "not_allowed")
        if parse_resident_id(holder.id_number, today=today).age_on(today) < WORKING_AGE:
            raise Refusal("under_working_age")
        return region

    async def _keep(self, running: Relation | None, fresh: Relation, locale: Locale) -> Relation | None:
        """Keep a registration of one's own, or widen the one that runs by what it lacks; None when somebody was first."""
        if running is None:
            return fresh if await self._store.add(fresh, locale) else None
        more = tuple(cover for cover in fresh.covers if cover.insurance not in running.insurances)
        return await self._store.change(running, replace(running, covers=(*running.covers, *more)), locale)


def registration_id_of(holder_id: HolderId, employer_id: InstitutionId | None, number: int) -> RegistrationId:
    """The id of the registration of this number between a person and an employer, whoever makes it and however often."""
    return RegistrationId(derived_id("reg", holder_id, employer_id or "", str(number)))


def _next_number(before: Collection[Relation]) -> int:
    return max((relation.number for relation in before), default=0) + 1


def row_mark(request: bytes, number: int) -> bytes:
    """What a registration keeps of the row that made it, so that the retry of a request knows its own rows from each other."""
    return request + number.to_bytes(2)


def _employment_in(relations: Collection[Relation], insurances: Collection[Insurance]) -> bool:
    return any(one.runs and one.employer_id is not None and is_about(one, insurances) for one in relations)


def _region_of(employer: Institution, named: str | None) -> str:
    """In which of its regions an employer registers somebody."""
    if named is None and len(employer.region_codes) == 1:
        return employer.region_codes[0]
    if named is None:
        raise invalid("regionCode", "missing")
    if named not in employer.region_codes:
        raise Refusal("channel_not_allowed", {"channels": ()})
    return named
