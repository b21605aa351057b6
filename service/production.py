"""Production: an application moves on stage by stage, and its card follows.

True here: a step is one write to the application, which also says what is still to be done; the card follows at once, or is
brought by the relay when the process died in between, and however often. A card comes into being with the number that its
producer gives it, and as one of a batch; while that batch is under test it is handed to nobody (Measures for the Administration
of Social Security Cards, art. 12). Never here: a stage that is skipped, or a card that goes back a stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from service.actors import COUNTERS, Actor, StaffRole
from service.announcements import Announcement, Topic
from service.applications import (
    READY,
    Application,
    ApplicationStage,
    ApplicationStore,
    Collector,
    Due,
    InsuranceRelations,
    Made,
    RejectionReason,
    Word,
    place_to_fetch,
)
from service.card_making import CardMaking, ProductionCards
from service.cards import Status
from service.changes import ROUNDS, Order
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal, invalid
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import ApplicationId, OperatorId, derived_id, is_id
from service.imports import card_id_of
from service.locale import Locale
from service.notifications import Notifications
from service.numbers import InvalidNumber, parse_card_number
from service.production_batches import Batch, BatchStore
from service.regions import Regions
from service.vault import Vault

_S = ApplicationStage
_BUREAU: Final[frozenset[StaffRole]] = frozenset({"bureauClerk", "bureauSupervisor"})
_PRODUCER: Final[frozenset[StaffRole]] = frozenset({"production"})
_BANK: Final[frozenset[StaffRole]] = frozenset({"bankTeller"})
# Who brings an application to a stage; whoever carries the cards may say where they are. Tellers speak for their own bank.
MOVERS: Final[Mapping[ApplicationStage, frozenset[StaffRole]]] = MappingProxyType(
    {
        _S.BANK_PRE_OPENED: _PRODUCER | _BANK,
        _S.IN_PRODUCTION: _PRODUCER,
        _S.SHIPPED_BY_PROVINCE: _PRODUCER,
        _S.RECEIVED_BY_CITY: _PRODUCER | _BUREAU,
        _S.RECEIVED_BY_BANK: _PRODUCER | _BANK,
        _S.DELIVERED: _PRODUCER | _BANK | _BUREAU,
        _S.REJECTED: _PRODUCER | _BUREAU,
    }
)
_TOPICS: Final[Mapping[Word, Topic]] = MappingProxyType(
    {
        "application_accepted": Topic.APPLICATION_ACCEPTED,
        "card_in_production": Topic.CARD_IN_PRODUCTION,
        "card_ready": Topic.CARD_READY,
        "application_rejected": Topic.APPLICATION_REJECTED,
    }
)
MOVING_ROLES: Final[tuple[StaffRole, ...]] = ("production", "bureauClerk", "bureauSupervisor", "bankTeller")


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a producer says of a card that it makes; each normalised and well-formed by itself."""

    card_number: str
    identification_code: str
    bank_account: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Who fetched the card, and whether name, number, photo and bank on its face are right."""

    collected_by: Collector
    face_is_right: bool


@dataclass(frozen=True, slots=True)
class Move:
    """What an operator says about an application. `numbers`, `collection`, `rejection`: where the stage takes them."""

    stage: ApplicationStage
    numbers: Numbers | None = None
    collection: Collection | None = None
    rejection: RejectionReason | None = None


class Production:
    """Moving applications on, and bringing cards to where their applications are."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ApplicationStore,
        batches: BatchStore,
        cards: ProductionCards,
        making: CardMaking,
        holders: HolderStore,
        insurance: InsuranceRelations,
        log: AccessLogStore,
        notifications: Notifications,
        regions: Regions,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._batches = batches
        self._cards = cards
        self._making = making
        self._holders = holders
        self._insurance = insurance
        self._log = log
        self._notifications = notifications
        self._regions = regions
        self._vault = vault
        self._clock = clock

    async def advance(self, application_id: str, move: Move, order: Order) -> Application:
        """Bring an application to its next stage, or end it; once for a request, however often that comes.

        On collection with something wrong on the face it ends `rejected`, and its card is nobody's. Refuses with `not_found`,
        `channel_not_allowed` (role, region, bank), `stage_not_allowed` with `stage` and `next`, `card_number_taken`,
        `invalid_request`, and `application_not_allowed` with reason `insuranceEnded`.
        """
        for _ in range(ROUNDS):
            application = await self._one(application_id)
            if application.did(order.request):
                return await self.follow(application)
            self._permit(application, move.stage, order.actor)
            after = await self._moved(application, move, order)
            await self._record(application, move, order)
            changed = await self._store.change(application, after)
            if changed is not None:
                return await self.follow(changed)
        raise Refusal("unavailable", retry_after=1)

    async def _one(self, application_id: str) -> Application:
        known = is_id("app", application_id)
        found = await self._store.application(ApplicationId(application_id)) if known else None
        if found is None:
            raise Refusal("not_found")
        return found

    def _permit(self, application: Application, stage: ApplicationStage, actor: Actor) -> None:
        """The role, the region, and a teller's own bank. Cards are handed out where the region's policy says."""
        roles = MOVERS.get(stage, frozenset())
        if stage is _S.DELIVERED:
            at_banks = self._regions.get(application.region_code).policy.collection == "bank"
            roles -= _BUREAU if at_banks else _BANK
        others_bank = actor.role == "bankTeller" and actor.bank_code != application.bank_code
        if actor.role not in roles or application.region_code not in actor.region_codes or others_bank:
            raise Refusal("channel_not_allowed", {"channels": sorted({COUNTERS[role] for role in roles if role in COUNTERS})})

    async def _moved(self, application: Application, move: Move, order: Order) -> Application:
        """The application as it is after the move. Refuses what cannot be now."""
        now, stage = self._clock.now(), move.stage
        if not application.running or stage not in {application.next_stage, _S.REJECTED}:
            raise _not_now(application)
        if stage is _S.REJECTED:
            return _ended(application, move.rejection or "withdrawn", order, now)
        batch = await self._batches.batch(application.batch_id) if application.batch_id else None
        under_test = application.under_test and (batch is None or batch.under_test)
        after = replace(application, stages=application.step(stage, order, now), under_test=under_test)
        if stage is _S.IN_PRODUCTION:
            after = replace(after, made=await self._numbered(application, batch, move.numbers))
        elif application.made is not None:
            await self._require_alive(application, application.made)
        if stage is _S.DELIVERED:
            if under_test:
                raise _not_now(application, "testCard")
            if move.collection is None:
                raise invalid("checks", "missing")
            if not move.collection.face_is_right:
                return replace(_ended(application, "faceWrong", order, now), collected_by=move.collection.collected_by)
            after = replace(after, collected_by=move.collection.collected_by)
        in_production: Word | None = "card_in_production" if stage is _S.IN_PRODUCTION else None
        return replace(after, due=application.owing("card_ready" if after.to_be_fetched else in_production))

    async def _numbered(self, application: Application, batch: Batch | None, numbers: Numbers | None) -> Made:
        """The new card's numbers, when they can be its."""
        if batch is None or batch.state == "failed":
            raise _not_now(application, "noBatch")
        if numbers is None:
            raise invalid("cardNumber", "missing")
        if await self._insurance.has_ended(application.holder_id):
            raise Refusal("application_not_allowed", {"reason": "insuranceEnded"})
        region = self._regions.get(application.region_code)
        try:
            number = parse_card_number(numbers.card_number, region.policy.card_number)
        except InvalidNumber as fault:
            raise invalid("cardNumber", f"card_number_{fault.code}") from None
        if not numbers.identification_code.startswith(region.code):
            raise invalid("identificationCode", "not_allowed")
        if await self._cards.by_number(region.code, number) is not None:
            raise Refusal("card_number_taken")
        card_id = card_id_of(self._vault, region.code, number)
        return Made(card_id, number, numbers.identification_code, numbers.bank_account)

    async def _require_alive(self, application: Application, made: Made) -> None:
        """A card that was cancelled on its way goes no further; its application can be rejected."""
        card = await self._cards.card(made.card_id, application.holder_id)
        if card is not None and card.stored_status is Status.CANCELLED:
            raise _not_now(application, "cancelled")

    async def _record(self, application: Application, move: Move, order: Order) -> None:
        actor = order.actor
        access_id = derived_id("acc", order.request.hex(), application.application_id, move.stage)
        access = Access(
            access_id=access_id,
            at=self._clock.now(),
            action="advanceApplication",
            by=actor.role,
            channel=actor.channel or actor.role,
            reason=str(move.stage),
            operator_id=OperatorId(actor.actor_id),
        )
        await self._log.record(application.holder_id, access)

    async def _record_check(self, application: Application, order: Order) -> None:
        """A check of its batch changes somebody's application and card."""
        access_id = derived_id("acc", order.request.hex(), application.application_id, "checkBatch")
        access = Access(
            access_id=access_id,
            at=self._clock.now(),
            action="checkBatch",
            by=order.actor.role,
            channel=order.actor.channel or order.actor.role,
            reason=None,
            operator_id=OperatorId(order.actor.actor_id),
        )
        await self._log.record(application.holder_id, access)

    async def send_back(self, application: Application, order: Order) -> None:
        """The batch failed: the application begins anew, and the card that was made for it is nobody's."""
        await self._record_check(application, order)
        for _ in range(ROUNDS):
            discard = application.made.card_id if application.made else None
            after = replace(
                application,
                stages=application.step(_S.ACCEPTED, order, self._clock.now()),
                due=application.owing(None, discard),
                made=None,
                batch_id=None,
                under_test=False,
            )
            changed = await self._store.change(application, after)
            if changed is not None:
                await self.follow(changed)
                return
            anew = await self._store.application(application.application_id)
            if anew is None or not anew.running or anew.batch_id != application.batch_id:
                return
            application = anew
        raise Refusal("unavailable", retry_after=1)

    async def pass_test(self, application: Application, order: Order) -> None:
        """The batch passed its checks: the card is no card under test any more, and may be fetched if it lies there."""
        await self._record_check(application, order)
        for _ in range(ROUNDS):
            tell: Word | None = "card_ready" if application.stage is READY else None
            changed = await self._store.change(application, replace(application, under_test=False, due=application.owing(tell)))
            if changed is not None:
                await self.follow(changed)
                return
            anew = await self._store.application(application.application_id)
            if anew is None or not anew.under_test:
                return
            application = anew
        raise Refusal("unavailable", retry_after=1)

    async def undone(self, limit: int) -> Sequence[Errand]:
        """What was decided and is not known to be done; each may be done as often as need be."""
        return [Errand(one.application_id, partial(self.follow, one)) for one in await self._store.owing(limit)]

    async def follow(self, application: Application) -> Application:
        """Bring the cards to where the application is and say what is to be said; doing it again changes nothing.

        Refuses with `card_number_taken` when somebody else's card has the number since: the application is then back before
        production.
        """
        if application.made is not None:
            await self._making.bring(application, application.made)
        for due in application.due:
            if due.discard is not None:
                await self._making.discard(application, due.discard, "batchFailed")
            await self._tell(application, due)
        await self._store.settled(application, application.due)
        return application

    async def _tell(self, application: Application, due: Due) -> None:
        holder = await self._holders.holder(application.holder_id) if due.tell else None
        if due.tell is None or holder is None:
            return
        region = self._regions.get(application.region_code)

        def values(locale: Locale) -> Mapping[str, object]:
            return {"region": region.name(locale), "place": place_to_fetch(application, region, locale)}

        await self._notifications.tell(holder, Announcement(due.due_id, _TOPICS[due.tell], application.locale, values))


def _ended(application: Application, why: RejectionReason, order: Order, now: datetime) -> Application:
    stages = application.step(_S.REJECTED, order, now)
    return replace(application, stages=stages, due=application.owing("application_rejected"), rejection=why)


def _not_now(application: Application, reason: str | None = None) -> Refusal:
    facts = {"stage": application.stage, "next": application.next_stage}
    return Refusal("stage_not_allowed", facts | ({"reason": reason} if reason else {}))
