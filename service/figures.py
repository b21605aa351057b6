"""Newer figures for balances that have grown old.

True here: nobody asks the city while the figures of a card are fresh, or when there is no city to ask; a reader waits a moment
at most and else has the old figures, which say that they are. New ones take the place of older ones only, and touch nothing
else of a card. Never here: a figure that comes from anywhere but the city's answer.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from service.balances import Balance, BalanceStore, Figure
from service.clock import Clock
from service.gateways.upstream import Question, UpstreamAway, Whose
from service.ids import HolderId
from service.upstream_documents import read_figures

# Seconds that a reader of a balance waits for newer figures.
PATIENCE: Final = 0.3
# Whoever the city has nothing newer for is not asked about again for so long.
REST: Final = timedelta(minutes=10)
_MOST_REMEMBERED: Final = 50_000

TakenT = TypeVar("TakenT")


class FigureStore(Protocol):
    """Where figures lie: with the cards."""

    async def bring(self, holder_id: HolderId, figures: Sequence[Figure]) -> None:
        """Put figures in the place of older ones of the same accounts, on every card of somebody."""


class Asking(Protocol):
    """Where the city is asked."""

    def refreshes(self, holder_id: HolderId) -> bool:
        """Whether it is any use asking for somebody's newer figures."""

    async def ask(
        self, question: Question, holder_id: HolderId, take: Callable[[bytes, Whose], Awaitable[TakenT]], patience: float
    ) -> TakenT:
        """What `take` made of the answer. Raises UpstreamAway."""


class Figures:
    """Bringing figures up to date."""

    def __init__(self, upstream: Asking, figures: FigureStore, balances: BalanceStore, clock: Clock) -> None:
        self._upstream = upstream
        self._figures = figures
        self._balances = balances
        self._clock = clock
        self._asked: OrderedDict[HolderId, datetime] = OrderedDict()

    def wanted(self, holder_id: HolderId, balance: Balance, old_before: datetime) -> bool:
        """Whether newer figures should be asked for. Costs next to nothing, for every look at a balance asks."""
        if not self._upstream.refreshes(holder_id):
            return False
        if balance.oldest is not None and balance.oldest >= old_before:
            return False
        asked = self._asked.get(holder_id)
        return asked is None or not asked <= self._clock.now() < asked + REST

    async def brought(self, holder_id: HolderId, balance: Balance) -> Balance:
        """The balance with what the city has newer, if it says so soon enough; else the same balance."""
        try:
            await self._upstream.ask("figures", holder_id, self._take, PATIENCE)
        except UpstreamAway:
            return balance
        return await self._balances.balance(balance.card_id, holder_id) or balance

    async def _take(self, document: bytes, whose: Whose) -> None:
        now = self._clock.now()
        figures = read_figures(document, whose, now)
        await self._figures.bring(whose.holder_id, figures)
        self._asked[whose.holder_id] = now
        self._asked.move_to_end(whose.holder_id)
        if len(self._asked) > _MOST_REMEMBERED:
            self._asked.popitem(last=False)

    def forget(self) -> None:
        """Nobody has been asked about yet: for a sandbox that is put back, and its clock with it."""
        self._asked.clear()
