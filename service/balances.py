"""Balances: the last known figures of a card's accounts.

True here: a figure is whole fen and carries its own as-of time and source; the status of the medical account is the card's
own at the moment of asking. Never here: arithmetic on money; Yika shows figures, others keep the books.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from service.cards import Card
from service.errors import Refusal
from service.ids import CardId, HolderId, is_id


class Account(StrEnum):
    """Which account."""

    MEDICAL = "medical"
    PENSION = "pension"
    HOUSING_FUND = "housingFund"


@dataclass(frozen=True, slots=True)
class Figure:
    """One account's balance. `source` names the system that reported it."""

    account: Account
    balance_fen: int
    status: str
    as_of: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Balance:
    """All figures of a card, read in one piece with the card."""

    card: Card
    figures: tuple[Figure, ...]


class BalanceStore(Protocol):
    """Where figures are kept: with the card, so that one read shows both as they were at one moment."""

    async def balance(self, card_id: CardId) -> Balance | None:
        """The card with its figures."""


class Balances:
    """Looking at balances."""

    def __init__(self, store: BalanceStore) -> None:
        self._store = store

    async def of_card(self, holder_id: HolderId, card_id: str) -> Balance:
        """The balance of the holder's own card. Refuses with `not_found`, also for somebody else's."""
        balance = await self._store.balance(CardId(card_id)) if is_id("card", card_id) else None
        if balance is None or balance.card.holder_id != holder_id:
            raise Refusal("not_found")
        return balance
