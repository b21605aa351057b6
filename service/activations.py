"""Activation: the one change that must happen exactly once, through whichever channel.

True here: it is a single conditional write on the card's id, status and version, which also appends to the card's history
and outbox; whoever comes second reads the card and says what is so. Online, details that do not match are never told apart,
and a guess is counted in its place before it is judged; every channel then goes the same way (`perform`). Never here: a
second document that must agree with the card.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from service.actors import Actor
from service.cards import Activation, BankStatus, Card, CardStore, MedicalStatus, Status, medical_account
from service.changes import ROUNDS, Changes, Order, happened
from service.clock import CHINA, Clock
from service.dependants import Act, Dependants
from service.errors import Refusal
from service.holders import Holder, HolderStore
from service.ids import ActivationId, HolderId, is_id
from service.limits import CARD_DETAILS, Limits
from service.numbers import ResidentId, parse_resident_id
from service.receipts import activation_deed, activation_id_of
from service.regions import Category, Region, Regions
from service.sessions import Session, require_assurance
from service.tokens import Tokens
from service.transitions import (
    TRANSITIONS,
    Action,
    Circumstances,
    Objection,
    judge,
    may_not_activate,
    refusal_of,
    refused,
)

Function = Literal["social", "bank"]
SOCIAL: Final[frozenset[Function]] = frozenset({"social"})


@dataclass(frozen=True, slots=True)
class Details:
    """What the holder typed, normalised and well-formed."""

    id_number: ResidentId
    card_number: str
    identification_code: str
    on_behalf_of: str | None


@dataclass(frozen=True, slots=True)
class Activated:
    """The answer: the card as it is now, its activation, and whether this request did it."""

    result: Literal["activated", "alreadyActivated"]
    card: Card
    activation: Activation
    medical: MedicalStatus
    receipt: str


@dataclass(frozen=True, slots=True)
class Owned:
    """A card together with the ID number of whom it was made for."""

    card: Card
    id_number: str


class ActivationStore(CardStore, Protocol):
    """The card's storage as activation needs it."""

    def by_number(self, region_code: str, card_number: str) -> Awaitable[Owned | None]:
        """The card with this number in a region, through the blind index; asking begins with the call."""

    async def by_activation(self, activation_id: ActivationId) -> Card | None:
        """The card that was activated under this id."""


class Activations:
    """Activating cards, and looking at activations."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ActivationStore,
        changes: Changes,
        holders: HolderStore,
        dependants: Dependants,
        regions: Regions,
        limits: Limits,
        tokens: Tokens,
        clock: Clock,
    ) -> None:
        self._store = store
        self._changes = changes
        self._holders = holders
        self._dependants = dependants
        self._regions = regions
        self._limits = limits
        self._tokens = tokens
        self._clock = clock

    async def activate(self, session: Session, details: Details, order: Order) -> Activated:
        """Activate the holder's card, or a linked dependant's, online.

        Refuses with `assurance_too_low`, `too_many_attempts`, `card_details_mismatch`, `not_found` (the dependant), and like
        `perform`.
        """
        require_assurance(session, 2, self._clock.now())
        beneficiary = await self._beneficiary(session, details)
        card, freed = await self._match(session, details, beneficiary)
        minor = self._is_minor(card, details.id_number)
        # A minor's own session proves who they are, and still is no guardian's.
        if not minor or beneficiary != session.holder_id:
            require_assurance(session, self._region(card).policy.required_assurance, self._clock.now())
        if beneficiary != session.holder_id:
            order = replace(order, guardian=session.holder_id)
        done = await self.perform(card, details.id_number, order, category="minor" if minor else "adult")
        await freed
        return done

    async def perform(
        self,
        card: Card,
        id_number: ResidentId,
        order: Order,
        *,
        category: Category,
        functions: frozenset[Function] = SOCIAL,
    ) -> Activated:
        """Activate this card as this actor: the one way for every channel. Who the person is, was proved before.

        `id_number`: that of the card's holder; `category`: by which the materials were asked for; `functions`: the account on
        the card too, at a counter of its bank. An active card is an answer and no refusal, whoever asks; one whose account is
        still to be activated gets that. Refuses with `guardian_required`, `channel_not_allowed`, `region_not_interconnected`,
        `card_not_activatable` with `reason`; `transition_not_allowed` when the account cannot be activated.
        """
        region = self._region(card)
        minor = self._is_minor(card, id_number)
        circumstances = Circumstances(
            "minor" if minor else category, minor, order.guardian is not None, await self._is_served(card, order.actor, region)
        )
        order = replace(order, about=circumstances)
        self._permit(may_not_activate(card, order.actor, region, circumstances, self._clock.now()), card, order)
        for _ in range(ROUNDS):
            now = self._clock.now()
            reason = refusal_of(Action.ACTIVATE, card, region, now)
            if card.activation is not None and reason == "alreadyActivated":
                return await self._already(card, card.activation, order, functions, now)
            if reason is not None:
                raise Refusal("card_not_activatable", {"reason": reason})
            what = happened(TRANSITIONS[Action.ACTIVATE].happening, card, order, now)
            activation = Activation(
                activation_id=activation_id_of(card.card_id, card.version),
                at=now,
                channel=what.channel,
                by=what.by,
                request=order.request,
                guardian=order.guardian,
            )
            after = replace(card, stored_status=Status.ACTIVE, activation=activation)
            if "bank" in functions and self._is_to_open(after, order, now):
                after = replace(after, bank=replace(after.bank, status=BankStatus.ACTIVE))
            changed = await self._store.change(card, after, what)
            if changed is not None:
                return await self._answer(changed, activation, order.request, now)
            card = await self._changes.anew(card)
        raise Refusal("unavailable", retry_after=1)

    async def _already(
        self, card: Card, activation: Activation, order: Order, functions: frozenset[Function], now: datetime
    ) -> Activated:
        """The answer for a card that is active, with its account activated where that was asked for and is not done."""
        if "bank" in functions and self._is_to_open(card, order, now):
            card = await self._changes.activate_bank(card, order)
        return await self._answer(card, activation, order.request, now)

    async def activation(self, holder_id: HolderId, activation_id: str) -> Activated:
        """An activation of the holder's own. Refuses with `not_found`, also for somebody else's."""
        known = is_id("act", activation_id)
        card = await self._store.by_activation(ActivationId(activation_id)) if known else None
        done = card.activation if card else None
        if card is None or done is None or holder_id not in {card.holder_id, done.by, done.guardian}:
            raise Refusal("not_found")
        return await self._answer(card, done, done.request, self._clock.now())

    async def _beneficiary(self, session: Session, details: Details) -> HolderId:
        """Whose card it must be: the holder's, or that of a dependant, which is written down first."""
        if details.on_behalf_of is None:
            return session.holder_id
        return await self._dependants.acting_for(session.holder_id, details.on_behalf_of, Act.ACTIVATE, self._clock.now())

    async def _match(self, session: Session, details: Details, beneficiary: HolderId) -> tuple[Card, Awaitable[object]]:
        """The card that the details are right for, and the place of the guess on its way back."""
        guess = f"{details.id_number.number}\0{details.card_number}\0{details.identification_code}"
        # Read beside the reserving, judged after it.
        found = self._store.by_number(details.identification_code[:6], details.card_number)
        place = await self._limits.reserve(CARD_DETAILS, session.holder_id, guess)
        owned = await found
        right = (
            owned is not None
            and owned.id_number == details.id_number.number
            and owned.card.identification_code == details.identification_code
        )
        others = owned is not None and owned.card.holder_id != beneficiary
        minors = owned is not None and right and others and self._is_minor(owned.card, details.id_number)
        wrong = not right or (others and not minors)
        if owned is None or wrong:
            await self._limits.miss(place)
            raise Refusal("card_details_mismatch")
        freed = self._limits.free(place)
        if minors:
            raise Refusal("guardian_required")
        return owned.card, freed

    def _region(self, card: Card) -> Region:
        return self._regions.get(card.region_code)

    def _is_minor(self, card: Card, id_number: ResidentId) -> bool:
        today = self._clock.now().astimezone(CHINA).date()
        return id_number.age_on(today) < self._region(card).policy.guardian_age

    async def _is_served(self, card: Card, actor: Actor, region: Region) -> bool:
        """Whether cards of this region are served: where their holder is insured, or at the counter of an operator."""
        if actor.role != "holder":
            return any(self._regions.get(code).serves_cards_of(region) for code in actor.region_codes)
        holder = await self._holders.holder(card.holder_id)
        if holder is None:
            raise Refusal("card_details_mismatch")
        return self._regions.get(holder.region_code).serves_cards_of(region)

    def _is_to_open(self, card: Card, order: Order, now: datetime) -> bool:
        """Whether the account on a card in use is still to be activated. Refuses who may not, and an account that is none."""
        objection = judge(Action.ACTIVATE_BANK, card, order.actor, self._region(card), now)
        if objection is not None and objection.reason == "bankActive":
            return False
        self._permit(objection, card, order)
        return True

    def _permit(self, objection: Objection | None, card: Card, order: Order) -> None:
        if objection is not None:
            raise refused(objection, card, order.actor, self._region(card), self._clock.now(), about=order.about)

    async def medical_account(self, card: Card, now: datetime) -> MedicalStatus:
        """The medical account of a card's holder at a moment, as the card shows it."""
        return await medical_account(self._store, card.holder_id, card, self._region(card), now)

    async def _answer(self, card: Card, activation: Activation, request: bytes, now: datetime) -> Activated:
        return Activated(
            result="activated" if activation.request == request else "alreadyActivated",
            card=card,
            activation=activation,
            medical=await self.medical_account(card, now),
            receipt=self._tokens.sign_receipt(activation_deed(card, activation).claims()),
        )


def circumstances_of(holder: Holder, card_region: Region, home: Region, now: datetime) -> Circumstances:
    """What decides, beside the card itself, whether its own holder may activate it online. `home`: where they are insured."""
    today = now.astimezone(CHINA).date()
    minor = parse_resident_id(holder.id_number, today=today).age_on(today) < card_region.policy.guardian_age
    served = home.serves_cards_of(card_region)
    return Circumstances("minor" if minor else "adult", minor, guardian=False, served=served)
