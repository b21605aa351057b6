"""Bulk applications: an employer, a school or a sub-district applies for its people, many in one request.

True here: every row is answered by itself, and what is wrong with one is nothing to the others; a row's application has an id
that follows from the request and the row's place, so a request that was cut off goes on where it was when it comes again.
Whoever sends a row says that name, ID number and photo were confirmed. Never here: what else is known of a person.
"""

from asyncio import Semaphore, gather
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from service.actors import COUNTERS
from service.applications import Application, Applications, Wish, application_id_of
from service.changes import Order
from service.clock import Clock
from service.errors import Refusal, invalid
from service.holders import Access, AccessLogStore
from service.ids import ApplicationId, derived_id
from service.limits import Limit, Limits
from service.newcomers import Named, Newcomers
from service.operators import Operator
from service.policies import Confirmer
from service.regions import Region, Regions

MOST_ROWS: Final = 100
# Ten thousand rows a day: the people of a large employer in some days, and nobody's whole book of ID numbers.
REQUESTS: Final = Limit("applications/bulk", 100, timedelta(days=1))
_SIDE_BY_SIDE: Final = 8

# An institution of this kind may be a company or a school; the region says which of them confirm.
_UNITS: Final[tuple[Confirmer, ...]] = ("employer", "school")


@dataclass(frozen=True, slots=True)
class BulkRow:
    """One person, and the bank on their card."""

    person: Named
    bank_code: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row with something in it that is no such thing: which field, and what, as the texts of fields say it."""

    field: str
    code: str


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What became of a row, counted from 1. `refusal` says why it was not accepted."""

    row: int
    result: Literal["accepted", "refused"]
    application_id: ApplicationId | None
    refusal: Refusal | None


class BulkApplications:
    """Applying for many."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        applications: Applications,
        newcomers: Newcomers,
        log: AccessLogStore,
        limits: Limits,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._applications = applications
        self._newcomers = newcomers
        self._log = log
        self._limits = limits
        self._regions = regions
        self._clock = clock

    async def apply(
        self, operator: Operator, region_code: str | None, rows: Sequence[BulkRow | Unreadable], order: Order
    ) -> list[RowAnswer]:
        """Apply for everybody for whom it is possible; an answer for each row, in their order.

        Refuses as a whole with `rate_limited` (REQUESTS), `channel_not_allowed` (the region is not this institution's, or
        lets others confirm), and `invalid_request` (`regionCode`); and with `unavailable` or `outcome_unknown`, when the same
        request is to be sent again.
        """
        region = self._region(operator, region_code)
        confirmer = _confirmer(operator, region)
        await self._limits.hit(REQUESTS, operator.operator_id)
        room = Semaphore(_SIDE_BY_SIDE)

        async def answer(own: list[int]) -> list[RowAnswer]:
            async with room:
                return [await self._answer(row, rows[row - 1], operator, region, confirmer, order) for row in own]

        # A person who stands in two rows is applied for by the first of them. All end before the first failure is told, so
        # that none goes on behind the answer.
        outcomes = await gather(*map(answer, _by_person(rows)), return_exceptions=True)
        answers: list[RowAnswer] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            answers.extend(outcome)
        return sorted(answers, key=lambda one: one.row)

    def _region(self, operator: Operator, region_code: str | None) -> Region:
        """The region that was named, or the only one of the institution."""
        served = operator.institution.region_codes
        if region_code is None and len(served) != 1:
            raise invalid("regionCode", "missing")
        code = region_code or served[0]
        if code not in served:
            raise Refusal("channel_not_allowed", {"channels": []})
        return self._regions.get(code)

    async def _answer(  # noqa: PLR0913, PLR0917  a row, and all that it is judged by
        self, row: int, content: BulkRow | Unreadable, operator: Operator, region: Region, confirmer: Confirmer, order: Order
    ) -> RowAnswer:
        if isinstance(content, Unreadable):
            return _refused(row, invalid(content.field, content.code))
        try:
            application = await self._apply(row, content, operator, region, confirmer, order)
        except Refusal as refusal:
            if refusal.transient:
                # Nobody knows what became of this row, so nothing is said of any.
                raise
            return _refused(row, refusal)
        return RowAnswer(row, "accepted", application.application_id, None)

    async def _apply(  # noqa: PLR0913, PLR0917  the same
        self, row: int, content: BulkRow, operator: Operator, region: Region, confirmer: Confirmer, order: Order
    ) -> Application:
        holder = await self._newcomers.known_or_new(content.person, region.code)
        application_id = application_id_of(order.request, row)
        access_id = derived_id("acc", application_id, "applyForCard")
        channel = COUNTERS.get(operator.role, operator.role)
        access = Access(access_id, self._clock.now(), "applyForCard", operator.role, channel, confirmer, operator.operator_id)
        await self._log.record(holder.holder_id, access)
        return await self._applications.apply(Wish(holder, region, content.bank_code, confirmer), order, application_id)


def _confirmer(operator: Operator, region: Region) -> Confirmer:
    """Who confirms by the region's policy: a unit for its own people, the sub-district for the rest."""
    allowed = region.policy.information_confirmation
    among = _UNITS if operator.role == "employer" else ("subDistrict",)
    for confirmer in among:
        if confirmer in allowed:
            return confirmer
    raise Refusal("channel_not_allowed", {"channels": region.policy.channels["confirmInformation"]})


def _by_person(rows: Sequence[BulkRow | Unreadable]) -> list[list[int]]:
    """The rows, counted from 1, those about one person together and in order."""
    people: defaultdict[str, list[int]] = defaultdict(list)
    for row, content in enumerate(rows, start=1):
        people[content.person.id_number.number if isinstance(content, BulkRow) else f"row {row}"].append(row)
    return list(people.values())


def _refused(row: int, refusal: Refusal) -> RowAnswer:
    return RowAnswer(row, "refused", None, refusal)
