"""Balances: the last known figures of a card's accounts.

True here: a figure is whole fen and carries its own as-of time and source; the status of the medical account is the card's
own at the moment of asking. Never here: arithmetic on money; Yika shows figures, others keep the books.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from service.cards import MedicalStatus, Status, medical_status
from service.errors import Refusal
from service.ids import CardId, HolderId, is_id
from service.regions import Region


class Account(StrEnum):
    """Which account."""

    MEDICAL = "medical"
    PENSION = "pension"
    HOUSING_FUND = "housingFund"


# Made on every look-up, so a named tuple: it takes a third of the time of a frozen dataclass.
class Figure(NamedTuple):
    """One account's balance. `source` names the system that reported it."""

    account: Account
    balance_fen: int
    status: str
    as_of: datetime
    source: str


class Balance(NamedTuple):
    """All figures of a card, read in one piece with what the status of its medical account follows from.

    `oldest`: of their times. `written`: the figures as they go out while the medical account is as stored; nothing where there
    are none, or where nobody is to see them.
    """

    card_id: CardId
    region_code: str
    generation: int
    stored_status: Status
    stored_medical: MedicalStatus
    figures: tuple[Figure, ...]
    oldest: datetime | None
    written: bytes

    def medical_alone(self, region: Region, now: datetime) -> MedicalStatus:
        """The medical account at a moment, as far as this card tells."""
        return medical_status(self.stored_medical, self.stored_status, self.generation, region, now)


# From card, region, figures, the oldest of their times and the status of the medical account to what goes out.
WriteFigures = Callable[[CardId, str, tuple[Figure, ...], datetime, MedicalStatus], bytes]


def unwritten(*_: object) -> bytes:
    """A WriteFigures for those who look at figures and show them to nobody."""
    return b""


class BalanceStore(Protocol):
    """Where figures are kept: with the card, so that one read shows both as they were at one moment."""

    def balance(self, card_id: CardId, holder_id: HolderId) -> Awaitable[Balance | None]:
        """The figures of a holder's card; None when there is no such card of theirs."""


class Balances:
    """Looking at balances."""

    def __init__(self, store: BalanceStore) -> None:
        self._store = store

    async def of_card(self, holder_id: HolderId, card_id: str) -> Balance:
        """The balance of the holder's own card. Refuses with `not_found`, also for somebody else's."""
        balance = await self._store.balance(CardId(card_id), holder_id) if is_id("card", card_id) else None
        if balance is None:
            raise Refusal("not_found")
        return balance
