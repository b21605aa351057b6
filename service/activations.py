"""Activation: the one change that must happen exactly once.

True here: it is a single conditional write on the card's id, status and version, which also appends to the card's history
and outbox; whoever comes second reads the card and says what is so. Details that do not match are never told apart, and a
guess is counted in its place before it is judged. Never here: a second document that must agree with the card.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from service.cards import Action, Activation, Card, MedicalStatus, refusal_of
from service.clock import CHINA, Clock, show
from service.errors import Refusal
from service.holders import HolderStore
from service.ids import ActivationId, DependantId, HolderId, derived_id, is_id
from service.limits import CARD_DETAILS, Limits
from service.locale import Locale
from service.numbers import ResidentId
from service.regions import Channel, Region, Regions
from service.sessions import Session, require_assurance
from service.tokens import Tokens

# A conflict means somebody changed the card between our read and our write; more than a few in a row is not chance.
_ROUNDS: Final = 5


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


class ActivationStore(Protocol):
    """The card's storage as activation needs it."""

    def by_number(self, region_code: str, card_number: str) -> Awaitable[Owned | None]:
        """The card with this number in a region, through the blind index; asking begins with the call."""

    async def by_activation(self, activation_id: ActivationId) -> Card | None:
        """The card that was activated under this id."""

    async def activate(self, card: Card, activation: Activation, locale: Locale) -> Card | None:
        """The one write, on the card's id, status and version; None when the card is no longer as it was read."""


class Activations:
    """Activating cards, and looking at activations."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ActivationStore,
        holders: HolderStore,
        regions: Regions,
        limits: Limits,
        tokens: Tokens,
        clock: Clock,
    ) -> None:
        self._store = store
        self._holders = holders
        self._regions = regions
        self._limits = limits
        self._tokens = tokens
        self._clock = clock

    async def activate(
        self, session: Session, details: Details, *, channel: Channel, request: bytes, locale: Locale
    ) -> Activated:
        """Activate the holder's card, or a linked dependant's.

        `request` marks the request, so that its retry after an unknown outcome finds its own work.
        Refuses with `assurance_too_low`, `too_many_attempts`, `card_details_mismatch`, `not_found` (the dependant),
        `guardian_required`, `channel_not_allowed`, `region_not_interconnected`, `card_not_activatable` with `reason`.
        """
        require_assurance(session, 2, self._clock.now())
        beneficiary = await self._beneficiary(session, details)
        card, freed = await self._match(session, details, beneficiary)
        await self._permit(session, card, details, channel)
        for _ in range(_ROUNDS):
            now = self._clock.now()
            if card.activation is not None and refusal_of(Action.ACTIVATE, card, now) == "alreadyActivated":
                await freed
                return self._answer(card, card.activation, request, now)
            if reason := refusal_of(Action.ACTIVATE, card, now):
                raise Refusal("card_not_activatable", {"reason": reason})
            activation = Activation(
                activation_id=ActivationId(derived_id("act", card.card_id, str(card.version))),
                at=now,
                channel=channel,
                by=session.holder_id,
                request=request,
            )
            changed = await self._store.activate(card, activation, locale)
            if changed is not None:
                await freed
                return self._answer(changed, activation, request, now)
            card, freed = await self._match(session, details, beneficiary)
        raise Refusal("unavailable", retry_after=1)

    async def activation(self, holder_id: HolderId, activation_id: str) -> Activated:
        """An activation of the holder's own. Refuses with `not_found`, also for somebody else's."""
        known = is_id("act", activation_id)
        card = await self._store.by_activation(ActivationId(activation_id)) if known else None
        if card is None or card.activation is None or holder_id not in {card.holder_id, card.activation.by}:
            raise Refusal("not_found")
        return self._answer(card, card.activation, card.activation.request, self._clock.now())

    async def _beneficiary(self, session: Session, details: Details) -> HolderId:
        """Whose card it must be: the holder's, or that of a dependant whose link is alive."""
        if details.on_behalf_of is None:
            return session.holder_id
        known = is_id("dep", details.on_behalf_of)
        link = await self._holders.dependant(DependantId(details.on_behalf_of)) if known else None
        today = self._clock.now().astimezone(CHINA).date()
        if link is None or link.guardian_id != session.holder_id or link.until <= today:
            raise Refusal("not_found")
        return link.holder_id

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

    async def _permit(self, session: Session, card: Card, details: Details, channel: Channel) -> None:
        """Who may, through this channel, in this region."""
        region = self._region(card)
        minor = self._is_minor(card, details.id_number)
        if minor and card.holder_id == session.holder_id:
            raise Refusal("guardian_required")
        require_assurance(session, region.policy.required_assurance, self._clock.now())
        category: Literal["minor", "adult"] = "minor" if minor else "adult"
        ways = [way.channel for way in region.activation_guide(category).ways]
        if channel not in ways:
            raise Refusal("channel_not_allowed", {"channels": ways})
        holder = await self._holders.holder(card.holder_id)
        if holder is None:
            raise Refusal("card_details_mismatch")
        if not self._regions.get(holder.region_code).serves_cards_of(region):
            offline = [way for way in ways if way not in {"app", "web"}]
            raise Refusal("region_not_interconnected", {"regionCode": region.code, "channels": offline})

    def _answer(self, card: Card, activation: Activation, request: bytes, now: datetime) -> Activated:
        return Activated(
            result="activated" if activation.request == request else "alreadyActivated",
            card=card,
            activation=activation,
            medical=card.medical(self._region(card), now),
            receipt=self._tokens.sign_receipt(_receipt_claims(card, activation)),
        )

    def verify_receipt(self, receipt: str) -> dict[str, Any] | None:
        """The facts of a receipt of ours, or None."""
        return self._tokens.read_receipt(receipt)


def _receipt_claims(card: Card, activation: Activation) -> dict[str, object]:
    """What a receipt says: ids and times, nothing about the person."""
    return {
        "iat": int(activation.at.timestamp()),
        "jti": activation.activation_id,
        "event": "card.activated",
        "cardId": card.card_id,
        "regionCode": card.region_code,
        "channel": activation.channel,
        "at": show(activation.at),
    }
