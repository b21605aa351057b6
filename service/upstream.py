"""Asking the city: at most one question about a person at a time, none for long, and none while it does not answer.

True here: readers who want the same of the same person share one question, and whoever goes away takes nobody along; a question
has a deadline well inside a request's, and what it brought is kept also when nobody waits any more. One that is wrong is said
in the log by its kind. Never here: a value that the city sent, in a log or in a refusal, or an answer that was not judged.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

import structlog

from service.breaker import Breaker
from service.clock import Clock
from service.errors import Refusal
from service.gateways.upstream import QUESTIONS, Question, UpstreamAway, UpstreamGateway, UpstreamWrong, Whose
from service.holders import HolderStore
from service.ids import HolderId

# Of a request's time, that a question may take.
SHARE: Final = 0.2
# Questions under way in this process; more than that at once is a city that hangs, and waiting in line would not help.
MOST_QUESTIONS: Final = 64

_log = structlog.get_logger("upstream")
TakenT = TypeVar("TakenT")
Take = Callable[[bytes, Whose], Awaitable[TakenT]]


class Upstream:
    """Questions to one city's systems."""

    def __init__(self, gateway: UpstreamGateway, holders: HolderStore, clock: Clock, *, seconds: float) -> None:
        self._gateway = gateway
        self._holders = holders
        self._seconds = seconds
        self._clock = clock
        self._breakers = {question: Breaker(clock) for question in QUESTIONS}
        self._flights: dict[tuple[Question, HolderId], asyncio.Task[Any]] = {}

    @property
    def seconds(self) -> float:
        """The deadline of a question."""
        return self._seconds

    def refreshes(self, holder_id: HolderId) -> bool:
        """Whether it is any use asking for somebody's newer figures."""
        return self._gateway.refreshes(holder_id)

    async def ask(self, question: Question, holder_id: HolderId, take: Take[TakenT], patience: float) -> TakenT:
        """What `take` made of the answer, within `patience` seconds; it judges the document and keeps what is to be kept.

        For one question `take` is always the same. Raises UpstreamAway, whatever it was that went wrong. Refuses with
        `token_revoked` when there is no such person any more.
        """
        flight = self._flights.get((question, holder_id)) or self._begin(question, holder_id, take)
        done, _ = await asyncio.wait({flight}, timeout=patience)
        if not done or flight.cancelled():
            raise UpstreamAway
        failure = flight.exception()
        if isinstance(failure, UpstreamAway):
            raise UpstreamAway(failure.retry_after)
        if isinstance(failure, Refusal):
            raise failure
        if failure is not None:
            raise UpstreamAway
        taken: TakenT = flight.result()
        return taken

    def _begin(self, question: Question, holder_id: HolderId, take: Take[TakenT]) -> "asyncio.Task[TakenT]":
        if len(self._flights) >= MOST_QUESTIONS:
            raise UpstreamAway
        # A context of its own: what the first reader has bound to theirs is not the others'.
        flight = asyncio.get_running_loop().create_task(self._fly(question, holder_id, take), context=Context())
        self._flights[question, holder_id] = flight
        flight.add_done_callback(lambda ended: self._landed(question, holder_id, ended))
        return flight

    def _landed(self, question: Question, holder_id: HolderId, flight: "asyncio.Task[Any]") -> None:
        if self._flights.get((question, holder_id)) is flight:
            del self._flights[question, holder_id]
        failure = None if flight.cancelled() else flight.exception()
        if failure is not None and not isinstance(failure, UpstreamAway | Refusal):
            _log.error("upstream_failed", question=question, error=type(failure).__name__)

    async def _fly(self, question: Question, holder_id: HolderId, take: Take[TakenT]) -> TakenT:
        holder = await self._holders.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        whose = Whose(holder_id, holder.id_number)
        document = await self._answer(question, whose)
        try:
            return await take(document, whose)
        except UpstreamWrong as wrong:
            # It did answer: somebody's spoilt record is no reason to leave everybody else without theirs.
            _log.error("upstream_wrong", question=question, fault=wrong.fault)
            raise UpstreamAway from None

    async def _answer(self, question: Question, whose: Whose) -> bytes:
        breaker = self._breakers[question]
        if not breaker.admits():
            raise UpstreamAway(breaker.retry_after)
        answered = False
        try:
            async with asyncio.timeout(self._seconds):
                document = await self._asked(question, whose)
            answered = True
        except (UpstreamAway, TimeoutError) as failure:
            _log.warning("upstream_away", question=question, slow=isinstance(failure, TimeoutError))
            raise UpstreamAway from None
        finally:
            # Also for one that was cancelled, or a probe would never end.
            if answered:
                breaker.succeeded()
            else:
                breaker.failed()
        return document

    def _asked(self, question: Question, whose: Whose) -> Coroutine[Any, Any, bytes]:
        if question == "figures":
            return self._gateway.figures(whose)
        if question == "contributions":
            return self._gateway.contributions(whose)
        return self._gateway.housing_fund(whose)

    def forget(self) -> None:
        """Nothing was asked and nothing has failed yet: for a sandbox that is put back, and its clock with it."""
        # Other breakers, because what ends now would count as a failure of those that it was asked under.
        self._breakers = {question: Breaker(self._clock) for question in QUESTIONS}
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.cancel()

    async def run(self) -> None:
        """Own the questions under way until cancelled, and end them then."""
        try:
            await asyncio.Event().wait()
        finally:
            flights = [*self._flights.values()]
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
