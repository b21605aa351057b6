"""Calls of the city's systems, counted: how many came back with something, how many with nothing, and how long they took.

True here: counting changes no answer and no failure. Never here: whom a question was about.
"""

import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from service.gateways.upstream import QUESTIONS, Question, UpstreamAway, UpstreamGateway, Whose
from service.ids import HolderId

# `cutOff`: whoever asked waited no longer, or the process stopped.
CallResult = Literal["answered", "away", "cutOff"]
RESULTS: Final[tuple[CallResult, ...]] = ("answered", "away", "cutOff")


@dataclass(slots=True)
class CallCounts:
    """Calls so far by question and result, and the seconds they took all together by question."""

    calls: dict[tuple[Question, CallResult], int] = field(
        default_factory=lambda: {(question, result): 0 for question in QUESTIONS for result in RESULTS}
    )
    seconds: dict[Question, float] = field(default_factory=lambda: dict.fromkeys(QUESTIONS, 0.0))

    def by_question(self) -> Iterator[tuple[Question, int, float]]:
        """Calls and seconds of each question."""
        for question in QUESTIONS:
            yield question, sum(self.calls[question, result] for result in RESULTS), self.seconds[question]


class CountedUpstream:
    """An UpstreamGateway around another."""

    def __init__(self, gateway: UpstreamGateway, counts: CallCounts) -> None:
        self._gateway = gateway
        self._counts = counts

    def refreshes(self, holder_id: HolderId) -> bool:
        return self._gateway.refreshes(holder_id)

    async def figures(self, whose: Whose) -> bytes:
        return await self._counted("figures", self._gateway.figures(whose))

    async def contributions(self, whose: Whose) -> bytes:
        return await self._counted("contributions", self._gateway.contributions(whose))

    async def housing_fund(self, whose: Whose) -> bytes:
        return await self._counted("housingFund", self._gateway.housing_fund(whose))

    async def _counted(self, question: Question, call: Awaitable[bytes]) -> bytes:
        started = time.perf_counter()
        result: CallResult = "cutOff"
        try:
            answer = await call
            result = "answered"
        except UpstreamAway:
            result = "away"
            raise
        finally:
            self._counts.calls[question, result] += 1
            self._counts.seconds[question] += time.perf_counter() - started
        return answer
