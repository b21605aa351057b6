"""The card: four axes that are not one status, and the one table of what may be done with it.

True here: a card's production stage, status, bank account and medical account move on their own; every change of status is
a row of TRANSITIONS; what a screen offers (`actions`) and what the server accepts (`refusal_of`) are read from the same row.
Never here: a rule that differs between regions; those are asked of the region's policy.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Protocol

from service.clock import CHINA
from service.errors import Refusal
from service.ids import ActivationId, CardId, HolderId, is_id
from service.regions import Channel, Region


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


class Action(StrEnum):
    """Verbs that change a status."""

    ACTIVATE = "activate"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: from which states an action leads to which, and the happening it becomes in the card's history.

    `already` is the reason of a card that is there by itself: not an error, but nothing to offer either.
    """

    action: Action
    sources: frozenset[Status]
    target: Status
    happening: str
    already: str


TRANSITIONS: Final[Mapping[Action, Transition]] = {
    row.action: row
    for row in (Transition(Action.ACTIVATE, frozenset({Status.SEALED}), Status.ACTIVE, "activated", "alreadyActivated"),)
}


@dataclass(frozen=True, slots=True)
class Activation:
    """The one activation of a card. `request` is the keyed mark of the request that did it, so that its retry is known."""

    activation_id: ActivationId
    at: datetime
    channel: Channel
    by: HolderId
    request: bytes


@dataclass(frozen=True, slots=True)
class Bank:
    """The bank on the face of the card. `account` is the bank number, or nothing while none is open."""

    code: str
    account: str | None
    status: BankStatus


@dataclass(frozen=True, slots=True)
class Pin:
    """Service PIN as far as anybody may see it."""

    state: PinState
    wrong_tries: int


def medical_status(stored: MedicalStatus, card_status: Status, generation: int, region: Region, now: datetime) -> MedicalStatus:
    """The medical account at a moment: frozen while the new card lies unactivated after its region's cut-off.

    Derived from policy and card, so that no nightly job can be missed; activation ends it by itself.
    """
    if stored is not MedicalStatus.NORMAL or card_status is not Status.SEALED:
        return stored
    superseded = region.policy.is_retired(generation - 1, now.astimezone(CHINA).date())
    return MedicalStatus.FROZEN if superseded else MedicalStatus.NORMAL


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

    def status(self, now: datetime) -> Status:
        """The status at a moment: a temporary loss that has run out is over without anybody having to end it."""
        if self.stored_status is Status.TEMPORARILY_LOST and self.temporary_loss_until is not None:
            return Status.ACTIVE if self.temporary_loss_until <= now else Status.TEMPORARILY_LOST
        return self.stored_status

    def medical(self, region: Region, now: datetime) -> MedicalStatus:
        """The medical account at a moment."""
        return medical_status(self.stored_medical, self.stored_status, self.generation, region, now)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition as it happened."""

    at: datetime
    happening: str
    before: Status
    after: Status
    channel: Channel
    reason: str | None


def refusal_of(action: Action, card: Card, now: datetime) -> str | None:
    """Why the card is not ready for an action, as a reason code; None when it is.

    Production comes before status (Measures for the Administration of Social Security Cards, art. 12: a card of a batch
    under test can be neither delivered nor activated).
    """
    status, row = card.status(now), TRANSITIONS[action]
    if status in row.sources:
        if card.test_batch:
            return "testCard"
        if card.stage is not Stage.DELIVERED:
            return "notDelivered"
        return "expired" if card.expires_on < now.astimezone(CHINA).date() else None
    return row.already if status is row.target else str(status)


@dataclass(frozen=True, slots=True)
class Offer:
    """An action as a screen shows it: allowed, or the reason why not."""

    action: Action
    reason: str | None


def offers(card: Card, now: datetime) -> tuple[Offer, ...]:
    """What the holder may do with the card at a moment."""
    return tuple(Offer(action, refusal_of(action, card, now)) for action in TRANSITIONS)


class CardStore(Protocol):
    """Where cards are kept."""

    def card(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Card | None]:
        """A card of a holder, as strongly read as the last acknowledged write; None when there is no such card of theirs."""

    async def cards_of(self, holder_id: HolderId, after: CardId | None, limit: int) -> list[Card]:
        """Cards of a holder in order of id, after one of them."""

    async def history(self, card_id: CardId, holder_id: HolderId) -> list[HistoryEntry] | None:
        """Everything that happened to a card of a holder, newest first; None when there is no such card of theirs."""


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

    async def list_mine(self, holder_id: HolderId, after: str | None, limit: int) -> tuple[list[Card], str | None]:
        """A page of the holder's cards and the place where the next begins, or None at the end."""
        cards = await self._store.cards_of(holder_id, CardId(after) if after else None, limit + 1)
        page = cards[:limit]
        return page, page[-1].card_id if len(cards) > limit else None

    async def history(self, holder_id: HolderId, card_id: str) -> list[HistoryEntry]:
        """What happened to a card, newest first. Refuses with `not_found`, also for somebody else's."""
        entries = await self._store.history(CardId(card_id), holder_id) if is_id("card", card_id) else None
        if entries is None:
            raise Refusal("not_found")
        return entries
