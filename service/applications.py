"""Applications: from asking for a card to having it in the hand, as the holder sees it.

True here: an application is one document, and each step of it one conditional write; nobody has two of a kind under way, by a
unique index, however many ask at once; what a step means for a card follows from the application (service/production.py).
Who confirmed name, ID number and photo is kept, and a person whose insurance relation has ended gets no new card. Never here:
a change of a card, and a region, a bank or a place for fetching that is not in the region's policy.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from service.actors import COUNTERS, Actor, Role
from service.cards import MOST_CARDS, Card, CardStore, Stage, Status
from service.changes import Order
from service.clock import Clock
from service.errors import Refusal, invalid
from service.holders import Holder, HolderStore
from service.ids import ApplicationId, BatchId, CardId, HolderId, derived_id, is_id
from service.locale import Locale, text
from service.policies import Confirmer
from service.regions import Region, Regions
from service.transitions import Action, refusal

ApplicationKind = Literal["firstCard", "replacement"]
ReplacementReason = Literal["damaged", "expired", "lost", "informationChanged"]
# Why one ended without a card: what was confirmed was not so, the photo cannot be printed, the card is faulty or lost, the
# applicant does not want it any more; or on collection something on its face was wrong.
RejectionReason = Literal["informationWrong", "photoUnusable", "cardFaulty", "withdrawn", "faceWrong"]
Collector = Literal["holder", "guardian", "unit"]
# Who confirmed the basic information: one of those whom the region names, or the holder, where its channels let them.
ConfirmedBy = Literal["holder"] | Confirmer
# What the person is told at a step.
Word = Literal["application_accepted", "card_in_production", "card_ready", "application_rejected"]


class ApplicationStage(StrEnum):
    """The stages of a card's production, and the end of an application that leads to none."""

    ACCEPTED = "accepted"
    BANK_PRE_OPENED = "bankPreOpened"
    IN_PRODUCTION = "inProduction"
    SHIPPED_BY_PROVINCE = "shippedByProvince"
    RECEIVED_BY_CITY = "receivedByCity"
    RECEIVED_BY_BANK = "receivedByBank"
    DELIVERED = "delivered"
    REJECTED = "rejected"


WAY: Final = tuple(ApplicationStage(stage.value) for stage in Stage)
ENDS: Final = frozenset({ApplicationStage.DELIVERED, ApplicationStage.REJECTED})
# Where a finished card waits to be fetched.
READY: Final = ApplicationStage.RECEIVED_BY_BANK


@dataclass(frozen=True, slots=True)
class Reached:
    """A stage that an application came to: when, by whom, and the mark of the request that did it."""

    stage: ApplicationStage
    at: datetime
    by: str
    role: Role
    request: bytes

    def actor(self) -> Actor:
        """In what capacity they acted, for what follows from it."""
        channel = "app" if self.role == "holder" else COUNTERS.get(self.role)
        return Actor(self.by, self.role, channel, frozenset(), None, None)


@dataclass(frozen=True, slots=True)
class Made:
    """The card that was made for an application, as its producer numbered it; `card_id` follows from region and number."""

    card_id: CardId
    number: str
    identification_code: str
    bank_account: str


@dataclass(frozen=True, slots=True)
class Due:
    """Something that a step left to be done: a word to the person, or a card that is none of theirs any more."""

    due_id: str
    tell: Word | None
    discard: CardId | None


@dataclass(frozen=True, slots=True)
class Application:
    """One application. `stages` is never empty and in order of time; `version` grows with every change and guards it.

    `confirmed_by`: none for a replacement, which takes what was confirmed before; `replaces`: the old card; `made`: the new
    one, once it is in production; `under_test`: it is of a test batch that has not passed its checks; `due`: what has been
    decided and is not known to be done.
    """

    application_id: ApplicationId
    holder_id: HolderId
    kind: ApplicationKind
    region_code: str
    bank_code: str
    confirmed_by: ConfirmedBy | None
    reason: ReplacementReason | None
    replaces: CardId | None
    locale: Locale
    stages: tuple[Reached, ...]
    version: int
    due: tuple[Due, ...] = ()
    made: Made | None = None
    batch_id: BatchId | None = None
    under_test: bool = False
    collected_by: Collector | None = None
    rejection: RejectionReason | None = None

    @property
    def stage(self) -> ApplicationStage:
        return self.stages[-1].stage

    @property
    def running(self) -> bool:
        return self.stage not in ENDS

    @property
    def created_at(self) -> datetime:
        return self.stages[0].at

    @property
    def next_stage(self) -> ApplicationStage | None:
        """The one stage that may come next; none at the end."""
        return WAY[WAY.index(self.stage) + 1] if self.running else None

    @property
    def to_be_fetched(self) -> bool:
        """Whether the card lies where its holder can fetch it."""
        return self.stage is READY and not self.under_test

    def step(self, stage: ApplicationStage, order: Order, at: datetime) -> tuple[Reached, ...]:
        """The stages with one more."""
        return (*self.stages, Reached(stage, at, order.actor.actor_id, order.actor.role, order.request))

    def owing(self, tell: Word | None, discard: CardId | None = None) -> tuple[Due, ...]:
        """What is due, with what the next change leaves to be done: at least that its card follows."""
        return (*self.due, Due(f"{self.application_id}:{self.version + 1}", tell, discard))

    def did(self, request: bytes) -> bool:
        """Whether a request has moved it before: its mark stands with a stage."""
        return any(reached.request == request for reached in self.stages)


class ApplicationStore(Protocol):
    """Where applications are kept."""

    async def application(self, application_id: ApplicationId) -> Application | None:
        """One by id, as strongly read as the last acknowledged write."""

    async def add(self, application: Application) -> bool:
        """Keep a new one; False when it is there already or another of its kind is under way for this person."""

    async def running(self, holder_id: HolderId, kind: ApplicationKind) -> Application | None:
        """The one of a kind that is under way for a person."""

    async def of_holder(self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int) -> list[Application]:
        """A person's, newest first, beginning after one of them, named by its moment and id."""

    async def of_regions(
        self,
        region_codes: Collection[str],
        stage: ApplicationStage | None,
        bank_code: str | None,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Application]:
        """Those of some regions, perhaps at one stage or of one bank only, newest first, after one of them."""

    async def change(self, before: Application, after: Application) -> Application | None:
        """The one write, if it is as it was read; None when it is so no longer.

        Refuses with `card_number_taken` when another application has the number, the code or the account of the new card.
        """

    async def in_batch(self, batch_id: BatchId, limit: int, *, under_test: bool) -> list[Application]:
        """Some that are under way in a batch; `under_test`: only those whose card still counts as one under test."""

    async def owing(self, limit: int) -> list[Application]:
        """Some of which something is due."""

    async def settled(self, application: Application, done: Iterable[Due]) -> None:
        """Take what was done off it; taking it off again changes nothing."""


class InsuranceRelations(Protocol):
    """What is known of people's insurance relations."""

    async def has_ended(self, holder_id: HolderId) -> bool:
        """Whether somebody's relation has ended: they are paid out and get no new card."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody applies for: a first card of a bank in a region, with who confirmed their basic information."""

    holder: Holder
    region: Region
    bank_code: str
    confirmed_by: ConfirmedBy


class Applications:
    """Applying for cards, and looking at how far they are."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ApplicationStore,
        cards: CardStore,
        holders: HolderStore,
        insurance: InsuranceRelations,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._store = store
        self._cards = cards
        self._holders = holders
        self._insurance = insurance
        self._regions = regions
        self._clock = clock

    async def apply_online(self, holder_id: HolderId, region_code: str | None, bank_code: str, order: Order) -> Application:
        """The holder applies in their own name, having confirmed their information; where insured unless a region is named.

        Refuses with `channel_not_allowed` where the region lets nobody confirm online, `region_not_interconnected`,
        `invalid_request` (`regionCode`, `bank`), and like `apply`.
        """
        holder = await self._holders.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        region = self._regions.by_code.get(region_code or holder.region_code)
        if region is None:
            raise invalid("regionCode", "not_allowed")
        channels = region.policy.channels["confirmInformation"]
        if order.actor.channel not in channels:
            raise Refusal("channel_not_allowed", {"channels": channels})
        if not self._regions.get(holder.region_code).serves_cards_of(region):
            offline = tuple(channel for channel in channels if channel not in {"app", "web"})
            raise Refusal("region_not_interconnected", {"regionCode": region.code, "channels": offline})
        return await self.apply(Wish(holder, region, bank_code, "holder"), order, application_id_of(order.request))

    async def apply(self, wish: Wish, order: Order, application_id: ApplicationId) -> Application:
        """Apply for a first card, or for one after the last was cancelled. The same id again is the same application.

        Refuses with `invalid_request` (`bank`), `application_not_allowed` and reason `hasCard` or `insuranceEnded`, and
        `application_exists` with its id.
        """
        known = await self._store.application(application_id)
        if known is not None:
            return known
        if all(bank.code != wish.bank_code for bank in wish.region.banks):
            raise invalid("bank", "bank_not_of_region")
        holder_id = wish.holder.holder_id
        cards = await self._cards.cards_of(holder_id, None, MOST_CARDS)
        if any(card.stored_status is not Status.CANCELLED for card in cards):
            raise Refusal("application_not_allowed", {"reason": "hasCard"})
        return await self._add(
            Application(
                application_id=application_id,
                holder_id=holder_id,
                kind="firstCard",
                region_code=wish.region.code,
                bank_code=wish.bank_code,
                confirmed_by=wish.confirmed_by,
                reason=None,
                replaces=None,
                locale=order.locale,
                stages=(),
                version=0,
            ),
            order,
        )

    async def replace(self, card: Card, reason: ReplacementReason, order: Order) -> Application:
        """Apply for a new card in the place of one that the caller has a right to; the old one works on as it may.

        Refuses with `channel_not_allowed`, `transition_not_allowed`, `application_not_allowed` with reason `hasCard` (a
        newer one) or `insuranceEnded`, and `application_exists` with its id.
        """
        application_id = application_id_of(order.request)
        known = await self._store.application(application_id)
        if known is not None:
            return known
        now, region = self._clock.now(), self._regions.get(card.region_code)
        if no := refusal(Action.REPLACE, card, order.actor, region, now, about=order.about):
            raise no
        if await self._has_newer(card):
            raise Refusal("application_not_allowed", {"reason": "hasCard"})
        return await self._add(
            Application(
                application_id=application_id,
                holder_id=card.holder_id,
                kind="replacement",
                region_code=card.region_code,
                bank_code=card.bank.code,
                confirmed_by=None,
                reason=reason,
                replaces=card.card_id,
                locale=order.locale,
                stages=(),
                version=0,
            ),
            order,
        )

    async def _has_newer(self, card: Card) -> bool:
        """Whether its holder has been handed a card of a newer generation, which is then the one to use and to replace."""
        return any(
            other.generation > card.generation
            and other.region_code == card.region_code
            and other.stage is Stage.DELIVERED
            and other.stored_status is not Status.CANCELLED
            for other in await self._cards.cards_of(card.holder_id, None, MOST_CARDS)
        )

    async def _add(self, wanted: Application, order: Order) -> Application:
        if await self._insurance.has_ended(wanted.holder_id):
            raise Refusal("application_not_allowed", {"reason": "insuranceEnded"})
        stages = wanted.step(ApplicationStage.ACCEPTED, order, self._clock.now())
        made = replace(wanted, stages=stages, due=wanted.owing("application_accepted"), version=1)
        if await self._store.add(made):
            return made
        # Another request for the same was first, or this very one before its answer was lost.
        if known := await self._store.application(made.application_id):
            return known
        running = await self._store.running(made.holder_id, made.kind)
        if running is None:
            raise Refusal("unavailable", retry_after=1)
        raise Refusal("application_exists", {"applicationId": running.application_id})

    async def mine(self, holder_id: HolderId, application_id: str) -> Application:
        """One of the holder's own. Refuses with `not_found`, also for somebody else's."""
        found = await self._one(application_id)
        if found is None or found.holder_id != holder_id:
            raise Refusal("not_found")
        return found

    async def list_mine(
        self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Application], tuple[datetime, str] | None]:
        """A page of the holder's own, newest first, and where the next begins."""
        return _page(await self._store.of_holder(holder_id, after, limit + 1), limit)

    async def list_for(
        self, actor: Actor, stage: ApplicationStage | None, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Application], tuple[datetime, str] | None]:
        """A page of those that an operator has to do with: of their regions, and of their bank where they stand for one."""
        found = await self._store.of_regions(actor.region_codes, stage, actor.bank_code, after, limit + 1)
        return _page(found, limit)

    async def _one(self, application_id: str) -> Application | None:
        return await self._store.application(ApplicationId(application_id)) if is_id("app", application_id) else None


def application_id_of(request: bytes, row: int = 0) -> ApplicationId:
    """The id of what a keyed request applies for, so that its retry finds its own work; `row`: its place among several."""
    return ApplicationId(derived_id("app", request.hex(), str(row)))


def place_to_fetch(application: Application, region: Region, locale: Locale) -> str:
    """Where finished cards of this application's region and bank are handed out, in words."""
    bank = next((bank.name(locale) for bank in region.banks if bank.code == application.bank_code), application.bank_code)
    return text(locale, f"fetching.{region.policy.collection}", region=region.name(locale), bank=bank)


def _page(found: list[Application], limit: int) -> tuple[list[Application], tuple[datetime, str] | None]:
    page = found[:limit]
    return page, (page[-1].created_at, page[-1].application_id) if len(found) > limit else None
