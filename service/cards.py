"""The card: four axes that are not one status, and the one way in which any of them changes.

True here: a card's production stage, status, bank account and medical account move on their own; a change is the card as it
was read, the card as it shall be, and what happened, written at once or not at all. What may be done with a card, and by
whom, is the table in service/transitions.py. Never here: a rule that differs between regions.
"""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from service.clock import CHINA
from service.errors import Refusal
from service.ids import ActivationId, CardId, HolderId, is_id
from service.locale import Locale
from service.regions import Channel, Region

# Nobody has as many; it bounds what one question can cost.
MOST_CARDS: Final = 100
# Why a card is locked: whoever asked for it, or because somebody misused it, which takes two people to undo.
LockReason = Literal["holderRequest", "fraud"]


class Stage(StrEnum):
    """Production stage, in the order seen in provincial systems."""

    ACCEPTED = "accepted"
    BANK_PRE_OPENED = "bankPreOpened"
    IN_PRODUCTION = "inProduction"
    SHIPPED_BY_PROVINCE = "shippedByProvince"
    RECEIVED_BY_CITY = "receivedByCity"
    RECEIVED_BY_BANK = "receivedByBank"
    DELIVERED = "delivered"


class Status(StrEnum):
    """Status of the card, code AAZ502 of the social security card standard."""

    SEALED = "sealed"
    ACTIVE = "active"
    FORMALLY_LOST = "formallyLost"
    LOCKED = "locked"
    TEMPORARILY_LOST = "temporarilyLost"
    CANCELLED = "cancelled"


AAZ502: Final[Mapping[Status, int]] = {
    Status.SEALED: 0,
    Status.ACTIVE: 1,
    Status.FORMALLY_LOST: 2,
    Status.LOCKED: 3,
    Status.TEMPORARILY_LOST: 4,
    Status.CANCELLED: 9,
}


class BankStatus(StrEnum):
    """Bank account on the card. Activated at an outlet of the card's own bank, never online."""

    NONE = "none"
    PENDING = "pending"
    ACTIVE = "active"
    DORMANT = "dormant"
    CLOSED = "closed"


class MedicalStatus(StrEnum):
    """Medical personal account."""

    UNOPENED = "unopened"
    NORMAL = "normal"
    FROZEN = "frozen"
    CLOSED = "closed"


class PinState(StrEnum):
    """Service PIN. `initial` is the region's first value, which must be changed before it opens anything."""

    INITIAL = "initial"
    SET = "set"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Activation:
    """The one activation of a card. `request` is the keyed mark of the request that did it, so that its retry is known.

    `by`: the id of who did it, a resident or an operator; `guardian`: for a minor, who acted or stood at the counter.
    """

    activation_id: ActivationId
    at: datetime
    channel: Channel
    by: str
    request: bytes
    guardian: HolderId | None = None


@dataclass(frozen=True, slots=True)
class Bank:
    """The bank on the face of the card. `account` is the bank number, or nothing while none is open."""

    code: str
    account: str | None
    status: BankStatus


@dataclass(frozen=True, slots=True)
class Pin:
    """Service PIN. `hash` (argon2id) only of one that a holder chose: the first one follows from the region's policy.

    `wrong_tries`: guesses since the last right one, those that are being judged at the moment included.
    """

    state: PinState
    wrong_tries: int
    hash: str | None = field(default=None, repr=False)

    def state_under(self, max_tries: int) -> PinState:
        """The state as it counts: too many guesses lock it, also before anybody has written that down."""
        return PinState.LOCKED if self.wrong_tries >= max_tries else self.state

    def tries_left(self, max_tries: int) -> int:
        """How many more guesses are judged."""
        return 0 if self.state is PinState.LOCKED else max(0, max_tries - self.wrong_tries)


def medical_status(stored: MedicalStatus, card_status: Status, generation: int, region: Region, now: datetime) -> MedicalStatus:
    """The medical account at a moment, as far as one card tells.

    From its region's cut-off on it is frozen for a card of the retired generation, and for a new one that lies unactivated.
    Derived from policy and card, so that no nightly job can be missed. The account is the person's: `medical_account` looks at
    their other cards too.
    """
    if stored is not MedicalStatus.NORMAL or card_status is Status.CANCELLED or not region.cut_offs:
        return stored
    superseding = card_status is Status.SEALED and region.is_retired(generation - 1, now)
    return MedicalStatus.FROZEN if superseding or region.is_retired(generation, now) else MedicalStatus.NORMAL


@dataclass(frozen=True, slots=True)
class Card:
    """One card. `version` grows with every change and guards it; `holder_name` is as printed on the face."""

    card_id: CardId
    holder_id: HolderId
    region_code: str
    number: str
    identification_code: str
    holder_name: str
    generation: int
    bank: Bank
    stage: Stage
    test_batch: bool
    stored_status: Status
    temporary_loss_until: datetime | None
    activation: Activation | None
    stored_medical: MedicalStatus
    pin: Pin
    expires_on: date
    version: int
    lock_reason: LockReason | None = None

    def status(self, now: datetime) -> Status:
        """The status at a moment: a temporary loss that has run out is over without anybody having to end it."""
        if self.stored_status is Status.TEMPORARILY_LOST and self.temporary_loss_until is not None:
            return Status.ACTIVE if self.temporary_loss_until <= now else Status.TEMPORARILY_LOST
        return self.stored_status

    def is_expired(self, now: datetime) -> bool:
        """Whether the date on its face has passed, as the calendar at +08:00 has it."""
        return self.expires_on < now.astimezone(CHINA).date()

    def as_of(self, now: datetime) -> "Card":
        """The same card with nothing in it that time has ended: what every change starts from."""
        status = self.status(now)
        if status is self.stored_status:
            return self
        return replace(self, stored_status=status, temporary_loss_until=None)

    def medical_alone(self, region: Region, now: datetime) -> MedicalStatus:
        """The medical account at a moment, as far as this card tells."""
        return medical_status(self.stored_medical, self.stored_status, self.generation, region, now)

    def thaws(self, region: Region, now: datetime) -> bool:
        """Whether this is the activated card of a generation in force, which ends a freeze for its holder in its region."""
        activated = self.stored_status not in {Status.SEALED, Status.CANCELLED}
        return activated and self.region_code == region.code and not region.is_retired(self.generation, now)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition as it happened."""

    at: datetime
    happening: str
    before: Status
    after: Status
    channel: Channel
    reason: str | None


@dataclass(frozen=True, slots=True)
class Happened:
    """What a change of a card was, for its history and for those who should hear of it.

    `by`: the id of who did it; `request`: the mark of the keyed request, so that its retry recognises its own work; `tell`:
    whom to tell, in which language; `guardian`: who acted for a minor; `approved_by`: the second person, where it took two.
    """

    name: str
    at: datetime
    channel: Channel
    by: str
    reason: str | None
    request: bytes | None
    tell: HolderId
    locale: Locale
    guardian: HolderId | None = None
    approved_by: str | None = None


class CardStore(Protocol):
    """Where cards are kept."""

    def card(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Card | None]:
        """A card of a holder, as strongly read as the last acknowledged write; None when there is no such card of theirs."""

    def card_by_id(self, card_id: CardId) -> Awaitable[Card | None]:
        """A card whoever's it is, for counters: whether they may is asked of the card that comes back."""

    async def cards_of(self, holder_id: HolderId, after: CardId | None, limit: int) -> list[Card]:
        """Cards of a holder in order of id, after one of them."""

    async def history(self, card_id: CardId, holder_id: HolderId) -> list[HistoryEntry] | None:
        """Everything that happened to a card of a holder, newest first; None when there is no such card of theirs."""

    async def change(self, before: Card, after: Card, happened: Happened) -> Card | None:
        """The one write, on id, holder, status and version of the card as it was read; None when it is so no longer.

        Sets what differs between the two, counts the version up, and appends to history and outbox. Returns the card as it
        is then. Card, holder and numbers cannot be changed.
        """

    async def did(self, card: Card, request: bytes) -> bool:
        """Whether a request has changed this card before: its mark stands in the history."""

    async def count_pin_try(self, card: Card, max_tries: int) -> Card | None:
        """Count a guess at the PIN of the card as it was read, in one write; None when it is so no longer, or none is left."""

    async def give_back_pin_tries(self, card: Card) -> None:
        """The guess that was counted last on this card was right: it and those before it count no more."""


class WithAccount(Protocol):
    """What shows a medical account: a card, or its balance."""

    @property
    def stored_medical(self) -> MedicalStatus:
        """The account as it is stored."""

    def medical_alone(self, region: Region, now: datetime) -> MedicalStatus:
        """The account at a moment, as far as the card tells."""


def medical_among(shown: WithAccount, cards: Iterable[Card], region: Region, now: datetime) -> MedicalStatus:
    """The medical account of who has these cards, as one of them shows it: activating the new card thaws it on all of them."""
    alone = shown.medical_alone(region, now)
    frozen_by_cut_off = alone is MedicalStatus.FROZEN and shown.stored_medical is MedicalStatus.NORMAL
    return MedicalStatus.NORMAL if frozen_by_cut_off and any(card.thaws(region, now) for card in cards) else alone


async def medical_account(
    store: CardStore, holder_id: HolderId, shown: WithAccount, region: Region, now: datetime
) -> MedicalStatus:
    """The medical account of a person, as one of their cards shows it. The others are read only when a cut-off froze it."""
    if shown.medical_alone(region, now) is shown.stored_medical:
        return shown.stored_medical
    return medical_among(shown, await store.cards_of(holder_id, None, MOST_CARDS), region, now)


class Cards:
    """The holder's own cards."""

    def __init__(self, store: CardStore) -> None:
        self._store = store

    async def mine(self, holder_id: HolderId, card_id: str) -> Card:
        """One card of the holder. Refuses with `not_found`, also for somebody else's."""
        card = await self._store.card(CardId(card_id), holder_id) if is_id("card", card_id) else None
        if card is None:
            raise Refusal("not_found")
        return card

    async def one(self, card_id: str) -> Card:
        """A card whoever's it is, for counters. Refuses with `not_found`."""
        card = await self._store.card_by_id(CardId(card_id)) if is_id("card", card_id) else None
        if card is None:
            raise Refusal("not_found")
        return card

    async def list_mine(self, holder_id: HolderId, after: str | None, limit: int) -> tuple[list[Card], str | None]:
        """A page of the holder's cards and the place where the next begins, or None at the end."""
        cards = await self._store.cards_of(holder_id, CardId(after) if after else None, limit + 1)
        page = cards[:limit]
        return page, page[-1].card_id if len(cards) > limit else None

    async def medical_account(self, holder_id: HolderId, shown: WithAccount, region: Region, now: datetime) -> MedicalStatus:
        """The medical account of a person at a moment, as one of their cards or its balance shows it."""
        return await medical_account(self._store, holder_id, shown, region, now)

    async def history(self, holder_id: HolderId, card_id: str) -> list[HistoryEntry]:
        """What happened to a card, newest first. Refuses with `not_found`, also for somebody else's."""
        entries = await self._store.history(CardId(card_id), holder_id) if is_id("card", card_id) else None
        if entries is None:
            raise Refusal("not_found")
        return entries
