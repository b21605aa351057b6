"""Coalesced reads against a model: asked, written, answered, lost and given up in whatever order."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from service.mongo.batches import PATIENCE, Trips
from service.mongo.client import Collection, Document
from service.mongo.reads import MOST_IDS, Reads

ABSENT, UNREADABLE = "absent", "unreadable"
FEW = ("n0", "n1", "n2", ABSENT, UNREADABLE)
OWNERS = ("ann", "ben")


def _owner(document_id: str) -> str:
    return OWNERS[len(document_id) % 2]


class _Lost(Exception):  # noqa: N818  what became of the query
    """A query failed; carries which."""


class _Unreadable(Exception):  # noqa: N818  what became of a document
    """Nothing can be made of this document."""


def _value(document: Document) -> Document:
    if document["_id"] == UNREADABLE:
        raise _Unreadable
    return document


@dataclass(eq=False)
class _Query:
    """A query, as it came to the database. `owners`: empty when it asked whoever's they are."""

    ids: list[str]
    owners: list[str]
    plain: bool
    began: int
    end: asyncio.Future[None]
    seen: dict[str, int] | None = None
    error: _Lost | None = None
    over: bool = False


class _Scripted(Collection):
    """Documents whose queries begin by themselves and look and end when the model says so. `moment` orders what happens."""

    def __init__(self) -> None:
        self.moment = 0
        self.values: dict[str, int] = {}
        self.queries: list[_Query] = []
        self.most_in_flight = 0

    def shared_trips(self, kind: Literal["read", "write"]) -> Trips:
        del kind
        return Trips()

    @property
    def in_flight(self) -> list[_Query]:
        return [query for query in self.queries if not query.over]

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int,
    ) -> list[Document]:
        del projection, sort
        plain = isinstance(query["_id"], str)
        ids, *owners = ([query[field]] if plain else list(query[field]["$in"]) for field in ("_id", "owner") if field in query)
        return (await self._query(ids, owners[0] if owners else [], plain=plain))[:limit]

    async def _query(self, ids: list[str], owners: list[str], *, plain: bool) -> list[Document]:
        self.moment += 1
        query = _Query(ids, owners, plain, self.moment, asyncio.get_running_loop().create_future())
        self.queries.append(query)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        try:
            await query.end
        finally:
            query.over = True
        if query.error is not None:
            raise query.error
        # In an order of its own, as a database may.
        seen = reversed((query.seen or {}).items())
        return [{"_id": document_id, "owner": _owner(document_id), "value": value} for document_id, value in seen]

    def look(self, query: _Query) -> None:
        query.seen = {
            document_id: self.values.get(document_id, 0)
            for document_id in query.ids
            if document_id != ABSENT and (not query.owners or _owner(document_id) in query.owners)
        }


@dataclass(eq=False)
class _Reader:
    document_id: str
    owner: str
    task: asyncio.Task[Document | None] | None = None
    at: int = 0  # The moment in which they asked; 0: they have not yet.
    floor: int = 0
    gave_up: bool = False
    judged: bool = False


class _Model(RuleBasedStateMachine):
    """Nothing moves but by a rule: the loop turns and its clock goes when the model says so."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        setattr(self.loop, "time", lambda: self.now)  # noqa: B010  a clock of the model's own
        self.complaints: list[Mapping[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.collection = _Scripted()
        self.acknowledged: dict[str, int] = {}
        self.readers: list[_Reader] = []
        self.most_queries = 0

    @initialize(most_queries=st.integers(1, 4), owned=st.booleans())
    def begin(self, most_queries: int, *, owned: bool) -> None:
        self.most_queries = most_queries
        self.owned = owned
        fields = ("_id", "owner") if owned else ("_id",)
        self.reads = Reads(self.collection, _value, fields=fields, most_queries=most_queries)

    async def _read(self, reader: _Reader) -> Document | None:
        self.collection.moment += 1
        reader.at = self.collection.moment
        reader.floor = self.acknowledged.get(reader.document_id, 0)
        return await self.reads.get(*((reader.document_id, reader.owner) if self.owned else (reader.document_id,)))

    def _ask(self, document_id: str, owner: str) -> None:
        reader = _Reader(document_id, owner if self.owned else "")
        reader.task = self.loop.create_task(self._read(reader))
        self.readers.append(reader)

    def _turn(self, times: int) -> None:
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def _pending(self) -> list[_Reader]:
        return [reader for reader in self.readers if reader.task is not None and not reader.task.done()]

    def _mine(self, reader: _Reader) -> list[_Query]:
        """The queries that may answer a reader: begun after they asked, and for their document."""
        return [
            query
            for query in self.collection.queries
            if query.began > reader.at
            and reader.document_id in query.ids
            and (reader.owner in query.owners if self.owned else not query.owners)
        ]

    @rule(
        asked=st.lists(st.tuples(st.sampled_from(FEW), st.sampled_from(OWNERS)), min_size=1, max_size=6),
        turns=st.integers(0, 2),
    )
    def ask(self, asked: list[tuple[str, str]], turns: int) -> None:
        for document_id, owner in asked:
            self._ask(document_id, owner)
            self._turn(turns)

    @rule(number=st.integers(MOST_IDS - 2, 3 * MOST_IDS))
    def crowd(self, number: int) -> None:
        for n in range(number):
            self._ask(f"n{n}", _owner(f"n{n}"))

    @rule(document_id=st.sampled_from(FEW[:3]), acknowledged=st.booleans())
    def write(self, document_id: str, *, acknowledged: bool) -> None:
        self.collection.values[document_id] = self.collection.values.get(document_id, 0) + 1
        if acknowledged:
            self.acknowledged[document_id] = self.collection.values[document_id]

    @precondition(lambda self: self._pending())
    @rule(chance=st.randoms(use_true_random=False), number=st.integers(1, 5))
    def give_up(self, chance: random.Random, number: int) -> None:
        pending = self._pending()
        for reader in chance.sample(pending, min(number, len(pending))):
            assert reader.task is not None
            reader.gave_up = True
            reader.task.cancel()

    @precondition(lambda self: self.collection.in_flight)
    @rule(which=st.integers(0, 3), how=st.sampled_from(("look", "answer", "answer", "fail")))
    def end(self, which: int, how: str) -> None:
        query = self.collection.in_flight[which % len(self.collection.in_flight)]
        if query.end.done():
            return
        if query.seen is None:
            self.collection.look(query)
        if how == "fail":
            query.error = _Lost(query.began)
        if how != "look":
            query.end.set_result(None)

    @rule(times=st.integers(1, 4), seconds=st.sampled_from((0, 0, PATIENCE)))
    def turn(self, times: int, seconds: float) -> None:
        self.now += seconds
        self._turn(times)

    @rule()
    def settle(self) -> None:
        """Nobody waits who need not: for a query that is out, or for one of as many as there may be to end."""
        self._turn(20)
        if not self.collection.in_flight:
            assert self._pending() == []
        self.now += 2 * PATIENCE
        self._turn(20)
        for reader in self._pending():
            asked = any(not query.over for query in self._mine(reader))
            assert asked or len(self.collection.in_flight) == self.most_queries

    @invariant()
    def queries_are_bounded(self) -> None:
        assert self.collection.most_in_flight <= self.most_queries
        for query in self.collection.in_flight:
            assert len(query.ids) == len(set(query.ids)) <= MOST_IDS
            assert query.plain is (len(query.ids) == 1 >= len(query.owners))

    @invariant()
    def everybody_got_what_is_theirs(self) -> None:
        for reader in self.readers:
            if reader.task is None or reader.judged or not reader.task.done():
                continue
            reader.judged = True
            if reader.task.cancelled():
                assert reader.gave_up
                continue
            mine = self._mine(reader)
            answers = [query.seen for query in mine if query.over and query.error is None and query.seen is not None]
            error = reader.task.exception()
            if isinstance(error, _Unreadable):
                assert reader.document_id == UNREADABLE
                assert answers
            elif error is not None:
                assert any(query.error is error for query in mine)
            elif (document := reader.task.result()) is None:
                assert reader.document_id == ABSENT or (self.owned and reader.owner != _owner(reader.document_id))
                assert answers
            else:
                assert document["_id"] == reader.document_id != UNREADABLE
                assert not self.owned or document["owner"] == reader.owner
                assert document["value"] >= reader.floor
                assert any(seen.get(reader.document_id) == document["value"] for seen in answers)

    def teardown(self) -> None:
        try:
            for _ in range(50):
                self._turn(10)
                if not self._pending():
                    break
                for _ in self.collection.in_flight:
                    self.end(0, "answer")
            assert self._pending() == []
            # Also what readers left behind who gave up comes to an end.
            while self.collection.in_flight:
                self.end(0, "answer")
                self._turn(10)
            self.everybody_got_what_is_theirs()
            self.queries_are_bounded()
            assert asyncio.all_tasks(self.loop) == set()
            self.readers.clear()
            assert self.complaints == []
        finally:
            self.loop.close()


def test_whatever_happens_in_whatever_order_every_reader_gets_what_is_theirs() -> None:
    run_state_machine_as_test(
        _Model,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)),
    )
