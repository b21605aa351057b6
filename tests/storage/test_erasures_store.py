"""An erasure whose process is killed at any point is finished by another, once."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pymongo.errors import OperationFailure
from storage.conftest import Empty, Raw

from service.announcements import Topic
from service.clock import Clock
from service.contacts import ContactNews, unknown
from service.data_rights import DataRights, data_rights
from service.dependants import Dependant, dependant_id_of
from service.erasures import BETWEEN_SWEEPS
from service.errors import Refusal
from service.holders import Access
from service.ids import HolderId, derived_id
from service.ledger import Ledger
from service.limits import Limits
from service.mongo.applications import MongoApplicationStore
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.consents import MongoConsentStore
from service.mongo.contacts import MongoContactStore
from service.mongo.copies import MongoCopyStore
from service.mongo.dependants import MongoDependantStore
from service.mongo.erasures import MongoErasureStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.insurance import MongoRelationStore
from service.mongo.ledger import MongoLedgerStore
from service.mongo.limits import MongoLimitStore
from service.mongo.migrations import migrate
from service.mongo.notifications import MongoMessageStore
from service.notifications import Notifications
from service.regions import SHIPPED, Regions
from service.sandbox.personas import Person, cast, people
from service.sandbox.records import card_records, consent_records, holder_record
from service.vault import Vault

REGIONS = Regions.load_directory(SHIPPED)
PEOPLE = {person.key: person for person in people(cast(REGIONS))}
SOMEBODY, BYSTANDER = PEOPLE["cancelled"], PEOPLE["sealed"]
# Collections in which either of them has documents here.
NAMES = (
    *("holders", "cards", "consents", "messages", "sessions", "accesses", "erasures", "ledger_subjects", "limits"),
    *("approvals", "contacts", "dependants"),
)
ROUNDS = 15


class _Stores:
    """A process's own stores and rights, on the shared database."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self.holders = MongoHolderStore(database, vault)
        self.cards = MongoCardStore(database, vault)
        self.consents = MongoConsentStore(database)
        self.log = MongoAccessLogStore(database)
        self.messages = MongoMessageStore(database, vault)
        self.clock = clock
        self.rights: DataRights = data_rights(
            consents=self.consents,
            copies=MongoCopyStore(database, vault),
            erasures=MongoErasureStore(database, vault),
            holders=self.holders,
            cards=self.cards,
            applications=MongoApplicationStore(database, vault),
            relations=MongoRelationStore(database),
            accesses=self.log,
            ledger=Ledger(MongoLedgerStore(database), self.log, clock),
            notifications=Notifications(self.messages, MongoContactStore(database, vault), REGIONS, clock),
            limits=Limits(MongoLimitStore(database), vault, clock),
            clock=clock,
        )

    async def put(self, person: Person) -> None:
        """A person with their cards, a consent, and a look that was had at them."""
        now = self.clock.now()
        await self.holders.put(holder_record(person, "hash"))
        for record in card_records(person, REGIONS, now):
            await self.cards.put(record.card, record.id_number, record.figures, record.history)
        for consent in consent_records([person], now):
            await self.consents.put(consent)
        look = Access(derived_id("acc", person.key), now, "lookUp", "bureauClerk", "bureau", "enquiry")
        await self.log.record(person.holder_id, look)


@pytest.fixture
async def stores(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[_Stores]:
    """Two people, of whom one must not change."""
    made = _Stores(own, vault, Clock())
    for name in NAMES:
        raw[name].delete_many({})
    await made.put(SOMEBODY)
    await made.put(BYSTANDER)
    before = _about(raw, BYSTANDER.holder_id)
    assert len(before) >= 4
    yield made
    assert _about(raw, BYSTANDER.holder_id) == before
    for name in NAMES:
        raw[name].delete_many({})


def _about(raw: Raw, holder_id: HolderId) -> list[Any]:
    """Everything about somebody, in a fixed order."""
    whose = {"$or": [{"_id": holder_id}, {"holderId": holder_id}]}
    return [document for name in NAMES for document in raw[name].find(whose).sort("_id")]


async def _carry(rights: DataRights) -> None:
    """What a relay does at one look."""
    for errand in await rights.erasures.undone(10):
        await errand.do()


def _sent(raw: Raw) -> int:
    """A provider takes what is due; how many there were."""
    return raw.messages.update_many({"state": {"$in": ["due", "sending"]}}, {"$set": {"state": "sent"}}).modified_count


async def _done(raw: Raw, erasure_id: str) -> bool:
    found = raw.erasures.find_one({"_id": erasure_id})
    return found is not None and found["step"] == "done"


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_killed_at_any_point_it_is_finished_and_told_once(
    stores: _Stores, own: Database, vault: Vault, raw: Raw, seed: int
) -> None:
    random = Random(seed)
    asked_at = stores.clock.now()
    erasure = await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=asked_at)
    sent = 0
    for life in range(400):
        # A process that knows nothing but what is stored, and is gone some milliseconds later; a later one lives longer.
        clock = Clock()
        clock.offset = stores.clock.offset
        task = asyncio.create_task(_carry(_Stores(own, vault, clock).rights))
        await asyncio.sleep(random.uniform(0, 0.004 * (life % 40 + 1)))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        sent += _sent(raw)
        stores.clock.offset += timedelta(seconds=5)
        if await _done(raw, erasure.erasure_id):
            break
    assert await _done(raw, erasure.erasure_id)
    assert sent == 1
    left = {name: [*raw[name].find({"$or": [{"_id": SOMEBODY.holder_id}, {"holderId": SOMEBODY.holder_id}]})] for name in NAMES}
    assert {name for name, documents in left.items() if documents} == {"erasures", "accesses", "ledger_subjects"}
    # The ledger takes it from here: the log waits for the chain to hold the erasure.
    assert [entry["action"] for entry in left["accesses"]].count("erase") >= 1
    (kept,) = left["erasures"]
    assert set(kept) == {"_id", "holderId", "number", "step", "askedAt", "dueAt", "locale", "request"}


async def test_of_many_at_once_one_decides(stores: _Stores, raw: Raw) -> None:
    now = stores.clock.now()
    made = await asyncio.gather(
        *(
            stores.rights.erasures.ask(SOMEBODY.holder_id, request=bytes([number]) * 32, locale="en", now=now)
            for number in range(30)
        )
    )
    assert len({(one.erasure_id, one.request) for one in made}) == 1
    assert raw.erasures.count_documents({}) == 1
    assert raw.accesses.count_documents({"holderId": SOMEBODY.holder_id, "action": "askErasure"}) == 1


@pytest.mark.parametrize(
    "approval",
    [
        {"state": "pending", "expiresAt": datetime.now(UTC) + timedelta(hours=1), "outbox": []},
        {"state": "approved", "expiresAt": datetime.now(UTC), "outbox": [{"id": "apr:1"}]},
    ],
)
async def test_a_decision_that_is_open_or_not_carried_out_is_in_the_way(
    stores: _Stores, raw: Raw, approval: dict[str, Any]
) -> None:
    raw.approvals.insert_one({"_id": "apr_open", "holderId": SOMEBODY.holder_id, **approval})
    now = stores.clock.now()
    with pytest.raises(Refusal) as refused:
        await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=now)
    assert refused.value.facts == {"reason": "approvalPending"}
    raw.approvals.update_one({}, {"$set": {"state": "carriedOut", "outbox": [], "reason": b"x", "decided": {"note": b"x"}}})
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=now)
    for _ in range(2):
        await _carry(stores.rights)
        _sent(raw)
    (kept,) = raw.approvals.find({})
    assert (kept["reason"], kept["decided"]) == (None, {"note": None})
    raw.approvals.delete_many({})


async def test_what_waits_to_be_told_holds_the_sweep_up(stores: _Stores, raw: Raw) -> None:
    now = stores.clock.now()
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=now)
    for _ in range(3):
        await _carry(stores.rights)
        stores.clock.offset += timedelta(seconds=6)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 1
    assert _sent(raw) == 1
    await _carry(stores.rights)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0


async def test_what_a_request_under_way_wrote_goes_with_the_second_sweep(stores: _Stores, raw: Raw) -> None:
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=stores.clock.now())
    await _carry(stores.rights)
    _sent(raw)
    await _carry(stores.rights)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0
    late = {"_id": "ses_late", "holderId": SOMEBODY.holder_id, "expiresAt": datetime.now(UTC) + timedelta(hours=1)}
    raw.sessions.insert_one(late)
    stores.clock.offset += BETWEEN_SWEEPS + timedelta(seconds=1)
    await _carry(stores.rights)
    assert raw.sessions.count_documents({}) == 0


async def _apply(raw: Raw) -> None:
    """What keeps somebody from being erased, as if a request had begun it just now."""
    running = {"_id": "apr_late", "holderId": SOMEBODY.holder_id, "state": "pending", "outbox": []}
    raw.approvals.insert_one(running | {"expiresAt": datetime.now(UTC) + timedelta(hours=1)})


@pytest.mark.parametrize("looks", [0, 1])
async def test_what_began_after_the_decision_ends_the_erasure(stores: _Stores, raw: Raw, looks: int) -> None:
    # Whoever decided is gone: only what the relay does follows, before the person was told or after.
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=stores.clock.now())
    for _ in range(looks):
        await _carry(stores.rights)
    await _apply(raw)
    for _ in range(4):
        _sent(raw)
        await _carry(stores.rights)
        stores.clock.offset += BETWEEN_SWEEPS
    assert raw.erasures.count_documents({}) == 0
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 1
    assert raw.messages.count_documents({}) == looks
    # Who asks again when nothing is in the way any more hears of that as of the first.
    raw.approvals.delete_many({})
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"s" * 32, locale="en", now=stores.clock.now())
    await _carry(stores.rights)
    assert raw.messages.count_documents({}) == looks + 1


async def test_who_came_back_between_the_sweeps_is_not_swept(stores: _Stores, raw: Raw) -> None:
    now = stores.clock.now()
    erasure = await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=now)
    for _ in range(2):
        await _carry(stores.rights)
        _sent(raw)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0
    await stores.put(SOMEBODY)
    with pytest.raises(Refusal, match="unavailable"):
        await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"s" * 32, locale="en", now=stores.clock.now())
    stores.clock.offset += BETWEEN_SWEEPS + timedelta(seconds=1)
    await _carry(stores.rights)
    assert await _done(raw, erasure.erasure_id)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 1
    assert raw.cards.count_documents({"holderId": SOMEBODY.holder_id}) == len(SOMEBODY.cards)


async def test_one_that_is_withdrawn_leaves_the_earlier_one_as_it_was(
    stores: _Stores, own: Database, vault: Vault, raw: Raw
) -> None:
    store = MongoErasureStore(own, vault)
    asked_at = stores.clock.now()
    erasure = await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"1" * 32, locale="en", now=asked_at)
    for _ in range(3):
        await _carry(stores.rights)
        _sent(raw)
        stores.clock.offset += BETWEEN_SWEEPS + timedelta(seconds=1)
    (done,) = raw.erasures.find({})
    assert done["step"] == "done"
    await stores.put(SOMEBODY)
    again = await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"2" * 32, locale="zh-CN", now=stores.clock.now())
    assert again.number == 2
    await _apply(raw)
    await _carry(stores.rights)
    assert [*raw.erasures.find({})] == [done]
    # There is nothing left to withdraw, and what is done stays.
    assert not await store.withdraw(again)
    assert not await store.withdraw(erasure)
    assert [*raw.erasures.find({})] == [done]


async def test_news_of_an_address_is_told_before_the_sweep(stores: _Stores, own: Database, vault: Vault, raw: Raw) -> None:
    contacts = MongoContactStore(own, vault)
    before = unknown(SOMEBODY.holder_id)
    news = ContactNews("con:1", SOMEBODY.holder_id, Topic.EMAIL_CHANGED, "en", "old@mail.example")
    assert await contacts.change(before, replace(before, version=1), news)
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=stores.clock.now())
    for _ in range(3):
        await _carry(stores.rights)
        _sent(raw)
        stores.clock.offset += timedelta(seconds=6)
    assert raw.contacts.count_documents({"news.id": news.news_id}) == 1
    await contacts.carried(news)
    await _carry(stores.rights)
    assert raw.contacts.count_documents({}) == 0


async def test_whom_they_acted_for_hears_that_it_is_over(stores: _Stores, own: Database, vault: Vault, raw: Raw) -> None:
    links = MongoDependantStore(own, vault)
    link = Dependant(
        dependant_id=dependant_id_of(SOMEBODY.holder_id, BYSTANDER.holder_id),
        guardian_id=SOMEBODY.holder_id,
        holder_id=HolderId("hld_child"),
        relationship="child",
        until=date(2100, 1, 1),
        seat=0,
        version=1,
        linked_by=b"l" * 32,
        ended_at=None,
        ended_by=None,
    )
    await links.put(link)
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=stores.clock.now())
    for _ in range(3):
        await _carry(stores.rights)
        _sent(raw)
        stores.clock.offset += timedelta(seconds=6)
    (news,) = await links.news(10)
    assert (news.turn, news.holder_id) == ("ended", link.holder_id)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 1
    await links.carried(news)
    await _carry(stores.rights)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0
    assert raw.dependants.count_documents({}) == 0


async def test_somebody_who_was_erased_and_registered_anew_can_be_erased_again(stores: _Stores, raw: Raw) -> None:
    for number in (1, 2):
        if number > 1:
            await stores.put(SOMEBODY)
        now = stores.clock.now()
        erasure = await stores.rights.erasures.ask(SOMEBODY.holder_id, request=bytes([number]) * 32, locale="en", now=now)
        assert erasure.number == number
        for _ in range(4):
            await _carry(stores.rights)
            _sent(raw)
            stores.clock.offset += BETWEEN_SWEEPS + timedelta(seconds=1)
        assert await _done(raw, erasure.erasure_id)
        assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0


async def test_neither_a_copy_nor_an_erasure_looks_through_a_whole_collection(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()
    await migrate(database, print)
    stores = _Stores(database, vault, Clock())
    await stores.put(SOMEBODY)
    await stores.put(BYSTANDER)
    try:
        raw.command("profile", 2)
    except OperationFailure:
        pytest.skip("this server keeps no profile of its queries")
    now = stores.clock.now()
    await stores.rights.exports.make(SOMEBODY.holder_id, locale="en", now=now)
    await stores.rights.erasures.ask(SOMEBODY.holder_id, request=b"r" * 32, locale="en", now=now)
    for _ in range(4):
        await _carry(stores.rights)
        raw.messages.update_many({}, {"$set": {"state": "sent"}}, hint="_id_")
        stores.clock.offset += BETWEEN_SWEEPS + timedelta(seconds=1)
    raw.command("profile", 0)
    assert raw.holders.count_documents({"_id": SOMEBODY.holder_id}) == 0
    plans = {
        (entry["ns"].rpartition(".")[2], entry["planSummary"])
        for entry in raw["system.profile"].find({"planSummary": {"$exists": True}, "ns": {"$not": re.compile("profile")}})
    }
    if not plans:
        pytest.skip("this server keeps no profile of its queries")
    assert {collection for collection, plan in plans if plan == "COLLSCAN"} == set()
    assert {collection for collection, _ in plans} >= {"messages", "idempotency", "verifications", "visits", "approvals"}


async def test_who_is_not_there_is_not_erased(stores: _Stores, raw: Raw) -> None:
    with pytest.raises(Refusal, match="token_revoked"):
        await stores.rights.erasures.ask(HolderId("hld_nobody"), request=b"r", locale="en", now=stores.clock.now())
    with pytest.raises(Refusal) as refused:
        await stores.rights.erasures.ask(BYSTANDER.holder_id, request=b"r", locale="en", now=stores.clock.now())
    assert refused.value.facts == {"reason": "cardInUse"}
    assert raw.erasures.count_documents({}) == 0
