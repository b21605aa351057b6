"""The city's own systems as the sandbox plays them, with the books of the personas.

True here: it answers in the same documents as a real bridge, and they are judged at the same border; on demand it is away,
slow, out of date, or says things that cannot be. Never here: a persona's figure that is not in their books, and somebody who
is no persona with any.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import cycle
from typing import Any, Final

import orjson

from service.balances import Account, Figure
from service.clock import Clock
from service.contributions import ContributionRecord, Report
from service.gateways.upstream import UpstreamAway, Whose
from service.housing_funds import HousingFund
from service.ids import HolderId
from service.regions import Regions
from service.sandbox.books import HOUSING, MEDICAL, SOCIAL, contributions_of, housing_account
from service.sandbox.gateways import BOOK_FAULTS, SLOW_SECONDS, FaultStore
from service.sandbox.personas import Person
from service.sandbox.records import card_records
from service.upstream_documents import contributions_document, figures_document, housing_fund_document

# How old the books are, and how old when they are stale on demand: older than any region calls fresh.
_BEHIND: Final = timedelta(minutes=10)
_STALE: Final = timedelta(days=400)


class SandboxUpstream:
    """UpstreamGateway with the personas' books."""

    def __init__(
        self, store: FaultStore, people: Callable[[], Mapping[HolderId, Person]], regions: Regions, clock: Clock
    ) -> None:
        """`people`: the residents of the sandbox; asked for once, and not before somebody wants to know."""
        self._store = store
        self._cast = people
        self._regions = regions
        self._clock = clock
        self._nonsense = cycle(NONSENSE)

    @cached_property
    def _people(self) -> Mapping[HolderId, Person]:
        return self._cast()

    def refreshes(self, holder_id: HolderId) -> bool:
        """Only personas have books."""
        return holder_id in self._people

    async def figures(self, whose: Whose) -> bytes:
        """The balances of a persona. Raises UpstreamAway on demand."""
        as_of, spoil = await self._played()
        person = self._people.get(whose.holder_id)
        figures = self._balances(person, as_of) if person is not None else ()
        return spoil(figures_document(figures, whose))

    async def contributions(self, whose: Whose) -> bytes:
        """The contributions of a persona. Raises UpstreamAway on demand."""
        as_of, spoil = await self._played()
        person = self._people.get(whose.holder_id)
        record = ContributionRecord((Report(SOCIAL, as_of, ()), Report(MEDICAL, as_of, ())))
        if person is not None:
            record = contributions_of(person, self._clock.now(), as_of, grown_up=self._is_grown_up(person))
        return spoil(contributions_document(record, whose))

    async def housing_fund(self, whose: Whose) -> bytes:
        """The housing fund of a persona. Raises UpstreamAway on demand."""
        as_of, spoil = await self._played()
        person = self._people.get(whose.holder_id)
        fund = HousingFund(HOUSING, as_of, None)
        if person is not None:
            fen = next(one.balance_fen for one in self._balances(person, as_of) if one.account is Account.HOUSING_FUND)
            grown_up = self._is_grown_up(person)
            fund = replace(fund, account=housing_account(person, self._clock.now(), fen, grown_up=grown_up))
        return spoil(housing_fund_document(fund, whose))

    def _balances(self, person: Person, as_of: datetime) -> tuple[Figure, ...]:
        first = card_records(person, self._regions, self._clock.now())[0]
        return tuple(figure._replace(as_of=as_of) for figure in first.figures)

    def _is_grown_up(self, person: Person) -> bool:
        balances = self._balances(person, self._clock.now())
        return next(one.status for one in balances if one.account is Account.PENSION) != "unopened"

    async def _played(self) -> "tuple[datetime, Callable[[bytes], bytes]]":
        """Of what moment the books are, and what is done to a document before it goes out."""
        fault = await self._store.take_fault("upstream", BOOK_FAULTS)
        if fault in {"unavailable", "away"}:
            raise UpstreamAway
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        behind = _STALE if fault == "stale" else _BEHIND
        return self._clock.now() - behind, partial(_spoilt, next(self._nonsense)) if fault == "wrong" else _as_it_is


def _as_it_is(document: bytes) -> bytes:
    return document


def _spoilt(nonsense: Callable[[bytes], bytes], document: bytes) -> bytes:
    """Nonsense in any case: a document without amounts or moments has none that could be spoilt."""
    spoilt = nonsense(document)
    return _cut_off(document) if spoilt == document else spoilt


def _of_somebody_else(document: bytes) -> bytes:
    told = orjson.loads(document)
    return orjson.dumps(told | {"idNumber": told["idNumber"][::-1]})


def _less_than_nothing(document: bytes) -> bytes:
    return orjson.dumps(_with_amounts(orjson.loads(document), lambda fen: -fen - 1))


def _amounts_as_text(document: bytes) -> bytes:
    return orjson.dumps(_with_amounts(orjson.loads(document), str))


def _from_the_future(document: bytes) -> bytes:
    return orjson.dumps(_with_moments(orjson.loads(document)))


def _cut_off(document: bytes) -> bytes:
    return document[: len(document) // 2]


def _with_amounts(node: Any, change: Callable[[int], object]) -> Any:  # noqa: ANN401  it is JSON
    if isinstance(node, dict):
        return {
            name: change(value) if name.endswith("Fen") and isinstance(value, int) else _with_amounts(value, change)
            for name, value in node.items()
        }
    return [_with_amounts(item, change) for item in node] if isinstance(node, list) else node


def _with_moments(node: Any) -> Any:  # noqa: ANN401  it is JSON
    if isinstance(node, dict):
        return {name: "2999-01-01T00:00:00+00:00" if name == "asOf" else _with_moments(value) for name, value in node.items()}
    return [_with_moments(item) for item in node] if isinstance(node, list) else node


# What a `wrong` answer says, one after the other; none of it may ever be shown.
NONSENSE: Final = (_of_somebody_else, _less_than_nothing, _amounts_as_text, _from_the_future, _cut_off)
