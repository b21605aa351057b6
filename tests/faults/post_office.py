"""A relay with everything it stands on, and providers that go wrong as they are told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pymongo.database import Database as RawDatabase
from storage.conftest import activate

from service.card_news import CardNews
from service.cards import Activation, Card
from service.clock import Clock
from service.deliveries import QUEUES, Deliveries
from service.errands import Errands
from service.gateways.email import Email
from service.gateways.sms import Sms
from service.ids import ActivationId, HolderId, new_id
from service.mongo.cards import MongoCardStore
from service.mongo.contacts import MongoContactStore
from service.mongo.holders import MongoHolderStore
from service.mongo.notifications import MongoMessageStore
from service.notifications import Notice, Notifications
from service.regions import SHIPPED, Regions
from service.relay import Hearer, OutboxStore, Relay
from service.sandbox.personas import Person, cast, people
from service.sandbox.records import card_records, holder_record

REGIONS = Regions.load_directory(SHIPPED)
PEOPLE = {person.key: person for person in people(cast(REGIONS))}
NOTICE = Notice("ver_x:1", "verification_code", "15412345678", "en", {"code": "314159", "minutes": 5})
Raw = RawDatabase[dict[str, Any]]


class Movable(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.at = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


OfferedT = TypeVar("OfferedT", Sms, Email)


@dataclass
class Provider(Generic[OfferedT]):
    """Somebody who sends what they are offered, as it goes wrong. `fault` is asked for each one."""

    deduplicates: bool = True
    fault: Callable[[OfferedT], Awaitable[None]] | None = None
    offered: list[OfferedT] = field(default_factory=list)
    sent: list[OfferedT] = field(default_factory=list)

    async def send(self, one: OfferedT) -> None:
        self.offered.append(one)
        if self.fault is not None:
            await self.fault(one)
        if not self.deduplicates or one.message_id not in {earlier.message_id for earlier in self.sent}:
            self.sent.append(one)


@dataclass
class Post:
    """A relay with everything it stands on, on a database of its own. Each that is asked for is one more process."""

    cards: MongoCardStore
    holders: MongoHolderStore
    messages: MongoMessageStore
    contacts: MongoContactStore
    clock: Movable
    provider: Provider[Sms]
    mail: Provider[Email]
    raw: Raw

    @property
    def notifications(self) -> Notifications:
        return Notifications(self.messages, self.contacts, REGIONS, self.clock)

    @property
    def deliveries(self) -> Deliveries:
        return self.deliveries_by(self.clock)

    def deliveries_by(self, clock: Clock) -> Deliveries:
        return Deliveries(store=self.messages, sms=self.provider, email=self.mail, clock=clock)

    @property
    def relay(self) -> Relay:
        return self.relay_of(self.cards)

    def relay_of(self, cards: OutboxStore, *errands: Errands, before: Sequence[Hearer] = ()) -> Relay:
        notifications = self.notifications
        return Relay(
            outbox=cards,
            hearers=(*before, CardNews(notifications, self.holders)),
            deliveries=self.deliveries,
            errands=errands,
            posted=notifications.posted,
            clock=self.clock,
            share=1.0,
        )

    async def send_next(self) -> bool:
        """What one worker does with the message that waits longest; whether there was one."""
        deliveries = self.deliveries
        for queue in QUEUES:
            for claim in await deliveries.claim(queue, 1):
                await deliveries.deliver(claim)
                return True
        return False

    async def resident(self, key: str) -> tuple[Person, Card]:
        """A persona with a sealed card, in the database."""
        person = PEOPLE[key]
        await self.holders.put(holder_record(person, "hash"))
        (record,) = card_records(person, REGIONS, self.clock.now())
        await self.cards.put(record.card, record.id_number, record.figures, record.history)
        return person, record.card

    async def activated(self, key: str, by: HolderId | None = None) -> Person:
        """A persona whose card was activated just now."""
        person, card = await self.resident(key)
        done = Activation(ActivationId(new_id("act")), self.clock.now(), "app", by or card.holder_id, b"r" * 32, by)
        assert await activate(self.cards, card, done, "zh-CN") is not None
        return person

    async def deliver(self) -> None:
        """All that a relay has to do at the moment."""
        while await self.relay.carry():
            pass
        while await self.send_next():
            pass

    def states(self) -> dict[str, str]:
        return {document["_id"]: document["state"] for document in self.raw.messages.find()}

    async def posted(self, *mobiles: str) -> None:
        """A code for each of these."""
        for mobile in mobiles:
            await self.notifications.post(Notice(f"ver_{mobile}", NOTICE.template, mobile, "en", NOTICE.values))


@asynccontextmanager
async def at_work(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    """A relay at work; it ends in five seconds at most, with the test."""
    working = asyncio.create_task(relay.run())
    try:
        async with asyncio.timeout(5):
            yield working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
