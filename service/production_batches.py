"""Production batches: cards that are made together, and the three checks that a new supplier's or product's first ones pass.

True here: a batch is a test batch while no batch of its supplier and product has passed in its region (Measures for the
Administration of Social Security Cards, art. 12), so two that begin at once are both; a word on a check is one write, the cards
follow, and the relay sees to it when the process died. A batch that failed is over: its cards are nobody's and its applications
begin anew. Never here: a batch of several regions.
"""

from asyncio import gather
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, Protocol, get_args

from service.actors import COUNTERS, Actor, StaffRole
from service.applications import Application, ApplicationStage, ApplicationStore
from service.changes import ROUNDS, Order
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal
from service.ids import ApplicationId, BatchId, derived_id, is_id
from service.locale import Locale

Check = Literal["compliance", "security", "interRegion"]
BatchState = Literal["underTest", "released", "failed"]

CHECKS: Final[tuple[Check, ...]] = get_args(Check)
# Once a card is made, its application is of no batch but that one.
BEFORE_PRODUCTION: Final = frozenset({ApplicationStage.ACCEPTED, ApplicationStage.BANK_PRE_OPENED})
MOST_CARDS: Final = 500
_MOST_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """Cards made together. `checks`: what was found, None where nobody has looked; those of an ordinary batch need none.

    `application_ids`: for whom; those that turned out to be elsewhere are taken off. `spoke`: who acted last, by id, role and
    the mark of the request. `due`: its applications are not known to be where the batch is. `version` guards it.
    """

    batch_id: BatchId
    supplier: str
    product: str
    region_code: str
    is_test: bool
    state: BatchState
    checks: Mapping[Check, bool | None]
    application_ids: tuple[ApplicationId, ...]
    created_at: datetime
    by: str
    role: StaffRole
    request: bytes
    locale: Locale
    due: bool
    version: int

    @property
    def under_test(self) -> bool:
        return self.state == "underTest"

    def order(self) -> Order:
        """What follows for its cards, follows as whoever acted last."""
        actor = Actor(self.by, self.role, COUNTERS.get(self.role), frozenset(), None, None)
        return Order(actor, self.request, self.locale)


class BatchStore(Protocol):
    """Where batches are kept."""

    async def batch(self, batch_id: BatchId) -> Batch | None:
        """One by id, as strongly read as the last acknowledged write."""

    async def has_passed(self, region_code: str, supplier: str, product: str) -> bool:
        """Whether a test batch of this supplier and product has passed its checks in a region."""

    async def add(self, batch: Batch) -> bool:
        """Keep a new one; False when it is there already."""

    async def change(self, before: Batch, after: Batch) -> Batch | None:
        """The one write, if it is as it was read; None when it is so no longer."""

    async def take_off(self, batch: Batch, application_id: ApplicationId) -> None:
        """An application is not of this batch after all."""

    async def settled(self, batch: Batch) -> bool:
        """Nothing is due any more, if it is still as it was read; whether it is."""

    async def of_regions(self, region_codes: Collection[str], after: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        """Those of some regions, newest first, after one of them, named by its moment and id."""

    async def owing(self, limit: int) -> list[Batch]:
        """Some whose applications are not known to be where the batch is."""


class Following(Protocol):
    """What becomes of the applications of a batch."""

    async def pass_test(self, application: Application, order: Order) -> None:
        """The batch passed: its card is under test no more."""

    async def send_back(self, application: Application, order: Order) -> None:
        """The batch failed: the application begins anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a producer is about to make."""

    supplier: str
    product: str
    region_code: str
    application_ids: tuple[ApplicationId, ...]


class ProductionBatches:
    """Beginning batches, checking them, and looking at them."""

    def __init__(self, *, store: BatchStore, applications: ApplicationStore, following: Following, clock: Clock) -> None:
        self._store = store
        self._applications = applications
        self._following = following
        self._clock = clock

    async def begin(self, plan: Plan, order: Order) -> Batch:
        """Put applications that are not yet in production into a new batch.

        Refuses with `channel_not_allowed` (another region), `not_found` (an application), and `stage_not_allowed` for one that
        is in production, ended, or in a batch already.
        """
        batch_id = BatchId(derived_id("bat", order.request.hex()))
        known = await self._store.batch(batch_id)
        if known is None:
            if plan.region_code not in order.actor.region_codes:
                raise Refusal("channel_not_allowed", {"channels": []})
            for some in _few(plan.application_ids):
                await gather(*(self._require_free(application_id, plan.region_code) for application_id in some))
            known = await self._add(batch_id, plan, order)
        return await self.follow(known)

    async def _require_free(self, application_id: ApplicationId, region_code: str) -> None:
        application = await self._applications.application(application_id)
        if application is None or application.region_code != region_code:
            raise Refusal("not_found", {"applicationId": application_id})
        if application.stage not in BEFORE_PRODUCTION or application.batch_id is not None:
            facts = {"stage": application.stage, "next": application.next_stage, "applicationId": application_id}
            raise Refusal("stage_not_allowed", facts | ({"reason": "inBatch"} if application.batch_id else {}))

    async def _add(self, batch_id: BatchId, plan: Plan, order: Order) -> Batch:
        is_test = not await self._store.has_passed(plan.region_code, plan.supplier, plan.product)
        batch = Batch(
            batch_id=batch_id,
            supplier=plan.supplier,
            product=plan.product,
            region_code=plan.region_code,
            is_test=is_test,
            state="underTest" if is_test else "released",
            checks=MappingProxyType(dict.fromkeys(CHECKS)),
            application_ids=plan.application_ids,
            created_at=self._clock.now(),
            by=order.actor.actor_id,
            role=_staff(order.actor),
            request=order.request,
            locale=order.locale,
            due=True,
            version=1,
        )
        if await self._store.add(batch):
            return batch
        known = await self._store.batch(batch_id)
        if known is None:
            raise Refusal("unavailable", retry_after=1)
        return known

    async def check(self, batch_id: str, check: Check, order: Order, *, passed: bool) -> Batch:
        """Say what a check has found. With all three passed the cards may be handed out; with one failed the batch is over.

        The same word again changes nothing. Refuses with `not_found`, `channel_not_allowed`, and `batch_closed` for another
        word on a batch that is decided, or any on one that needs no checks.
        """
        for _ in range(ROUNDS):
            batch = await self.one(batch_id, order.actor)
            if batch.is_test and batch.checks[check] is passed:
                return await self.follow(batch)
            if not batch.under_test:
                raise Refusal("batch_closed", {"reason": batch.state if batch.is_test else "noTestBatch"})
            found = MappingProxyType({**batch.checks, check: passed})
            state: BatchState = "underTest"
            if not passed:
                state = "failed"
            elif all(found.values()):
                state = "released"
            who = order.actor
            after = replace(
                batch,
                checks=found,
                state=state,
                by=who.actor_id,
                role=_staff(who),
                request=order.request,
                locale=order.locale,
                due=True,
                version=batch.version + 1,
            )
            changed = await self._store.change(batch, after)
            if changed is not None:
                return await self.follow(changed)
        raise Refusal("unavailable", retry_after=1)

    async def one(self, batch_id: str, actor: Actor) -> Batch:
        """A batch of an operator's regions. Refuses with `not_found` and `channel_not_allowed`."""
        batch = await self._store.batch(BatchId(batch_id)) if is_id("bat", batch_id) else None
        if batch is None:
            raise Refusal("not_found")
        if batch.region_code not in actor.region_codes:
            raise Refusal("channel_not_allowed", {"channels": []})
        return batch

    async def list_for(
        self, actor: Actor, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Batch], tuple[datetime, str] | None]:
        """A page of the batches of an operator's regions, newest first, and where the next begins."""
        found = await self._store.of_regions(actor.region_codes, after, limit + 1)
        page = found[:limit]
        return page, (page[-1].created_at, page[-1].batch_id) if len(found) > limit else None

    async def undone(self, limit: int) -> Sequence[Errand]:
        """Batches whose applications are not known to be where they are; each may follow as often as need be."""
        return [Errand(batch.batch_id, partial(self.follow, batch)) for batch in await self._store.owing(limit)]

    async def follow(self, batch: Batch) -> Batch:
        """Bring some of the batch's applications to where it is, the rest next time; doing it again changes nothing."""
        if not batch.due:
            return batch
        if batch.state != "failed":
            batch = await self._take_in(batch)
        if batch.is_test and not batch.under_test:
            waiting = await self._applications.in_batch(batch.batch_id, _MOST_AT_ONCE, under_test=batch.state == "released")
            for application in waiting:
                if batch.state == "released":
                    await self._following.pass_test(application, batch.order())
                else:
                    await self._following.send_back(application, batch.order())
            if len(waiting) == _MOST_AT_ONCE:
                return batch
        if await self._store.settled(batch):
            return replace(batch, due=False)
        # Somebody said a word on it meanwhile, and may have done what follows before we came with what is old.
        anew = await self._store.batch(batch.batch_id)
        return batch if anew is None else await self.follow(replace(anew, due=True))

    async def _take_in(self, batch: Batch) -> Batch:
        """Every application of the plan learns of its batch, unless something else became of it meanwhile."""
        kept: list[ApplicationId] = []
        for some in _few(batch.application_ids):
            taken = await gather(*(self._taken_in(batch, application_id) for application_id in some))
            for application_id, is_in in zip(some, taken, strict=True):
                if is_in:
                    kept.append(application_id)
                else:
                    await self._store.take_off(batch, application_id)
        return replace(batch, application_ids=tuple(kept))

    async def _taken_in(self, batch: Batch, application_id: ApplicationId) -> bool:
        for _ in range(ROUNDS):
            application = await self._applications.application(application_id)
            if application is None:
                return False
            if application.batch_id is not None or application.stage not in BEFORE_PRODUCTION:
                return application.batch_id == batch.batch_id
            taken = replace(application, batch_id=batch.batch_id, under_test=batch.under_test)
            if await self._applications.change(application, taken) is not None:
                return True
        raise Refusal("unavailable", retry_after=1)


def _few(application_ids: Sequence[ApplicationId]) -> Iterator[Sequence[ApplicationId]]:
    """Some at a time, so that many are asked for at once and not all."""
    for begin in range(0, len(application_ids), _MOST_AT_ONCE):
        yield application_ids[begin : begin + _MOST_AT_ONCE]


def _staff(actor: Actor) -> StaffRole:
    if actor.role == "holder":
        raise AssertionError("batches are the operators' business")
    return actor.role
