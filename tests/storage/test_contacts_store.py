"""Contacts, and on what people sign in, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import WriteError
from storage.conftest import Raw

from service.announcements import Topic
from service.clock import Clock
from service.contacts import MOST_REQUESTS, ContactBook, ContactNews, Contacts, Pending, unknown
from service.errors import Refusal
from service.ids import HolderId, new_id
from service.limits import Limits
from service.locale import Locale
from service.mongo.client import Database
from service.mongo.contacts import MongoContactStore
from service.mongo.familiar import MongoFamiliarStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.limits import MongoLimitStore
from service.mongo.notifications import MongoMessageStore
from service.notifications import Notifications
from service.reach import UNTOLD, Reach
from service.regions import SHIPPED, Regions
from service.vault import Vault, VaultError

NOW = datetime.now(UTC).replace(microsecond=0)
REACH = Reach("somebody@mail.example", frozenset({"service"}), frozenset(), "en")
BYSTANDER = Contacts(HolderId(new_id("hld")), REACH, NOW, None, 3, (b"s" * 32, b"r" * 32))
PENDING = Pending("new@mail.example", b"c" * 32, 0, NOW + timedelta(minutes=10))


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoContactStore]:
    """A store with somebody else's contacts in it, which no test may change."""
    made = MongoContactStore(own, vault)
    await made.put(BYSTANDER)
    before = raw.contacts.find_one({"_id": BYSTANDER.holder_id})
    yield made
    assert raw.contacts.find_one({"_id": BYSTANDER.holder_id}) == before
    raw.contacts.delete_many({})


def nobody() -> Contacts:
    return unknown(HolderId(new_id("hld")))


def changed(before: Contacts, reach: Reach = REACH) -> Contacts:
    return replace(before, reach=reach, version=before.version + 1, requests=(*before.requests, b"q" * 32))


def news(contacts: Contacts) -> ContactNews:
    return ContactNews(f"{contacts.holder_id}:1", contacts.holder_id, Topic.EMAIL_CHANGED, "en", "old@mail.example")


async def test_contacts_come_back_as_they_were_put_and_those_of_who_said_nothing_are_empty(store: MongoContactStore) -> None:
    assert await store.contacts(BYSTANDER.holder_id) == BYSTANDER
    assert await store.reach(BYSTANDER.holder_id) == REACH
    one = nobody()
    assert await store.contacts(one.holder_id) == one
    assert await store.reach(one.holder_id) == UNTOLD


class _Overtaken(MongoContactStore):
    """Somebody else changes the same contacts each time before a write of ours, as often as is said."""

    times = 0

    async def change(self, before: Contacts, after: Contacts, news: ContactNews | None) -> bool:
        if self.times:
            self.times -= 1
            found = await self.contacts(before.holder_id)
            turned: Locale = "en" if found.reach.locale == "zh-CN" else "zh-CN"
            assert await super().change(found, changed(found, replace(found.reach, locale=turned)), None)
        return await super().change(before, after, news)


def book_on(store: MongoContactStore, own: Database, vault: Vault) -> ContactBook:
    clock = Clock()
    return ContactBook(
        store=store,
        holders=MongoHolderStore(own, vault),
        log=MongoAccessLogStore(own),
        notifications=Notifications(MongoMessageStore(own, vault), store, Regions.load_directory(SHIPPED), clock),
        limits=Limits(MongoLimitStore(own), vault, clock),
        vault=vault,
        clock=clock,
    )


@pytest.fixture
def passing(raw: Raw) -> Iterator[None]:
    """What a book leaves beside contacts goes again."""
    yield
    for name in ("accesses", "limits", "messages"):
        raw[name].delete_many({})


def asked(vault: Vault, one: HolderId, code: str) -> Pending:
    # A long run began more than the ten minutes of a code ago.
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    return replace(PENDING, code=vault.mac("email-code", one, PENDING.email, code), expires_at=until)


@pytest.mark.usefixtures("store", "passing")
async def test_a_right_code_confirms_although_something_else_is_changed_in_between(own: Database, vault: Vault) -> None:
    one, overtaken = nobody().holder_id, _Overtaken(own, vault)
    await overtaken.ask(one, asked(vault, one, "123456"))
    overtaken.times = 2
    done = await book_on(overtaken, own, vault).confirm(one, "123456", "en", request=b"m" * 32)
    assert (done.reach.email, done.pending, done.version) == (PENDING.email, None, 3)
    # What the others chose is still there.
    assert done.reach.locale == "en"
    assert await overtaken.contacts(one) == done


@pytest.mark.usefixtures("store", "passing")
async def test_who_is_overtaken_all_the_time_is_asked_to_come_again_and_not_called_locked(own: Database, vault: Vault) -> None:
    one, overtaken = nobody().holder_id, _Overtaken(own, vault)
    await overtaken.ask(one, asked(vault, one, "123456"))
    overtaken.times = 1000
    with pytest.raises(Refusal) as refused:
        await book_on(overtaken, own, vault).confirm(one, "123456", "en", request=b"m" * 32)
    assert refused.value.code == "unavailable"
    found = await overtaken.contacts(one)
    assert found.pending is not None
    assert found.pending.tries == 1


@pytest.mark.usefixtures("passing")
async def test_the_last_marks_are_kept_and_no_more(store: MongoContactStore, own: Database, vault: Vault) -> None:
    one, book = nobody().holder_id, book_on(store, own, vault)
    marks = [bytes([number]) * 32 for number in range(MOST_REQUESTS + 3)]
    for number, mark in enumerate(marks):
        await book.prefer(one, frozenset(), frozenset(), "en" if number % 2 else "zh-CN", request=mark)
    assert (await store.contacts(one)).requests == tuple(marks[3:])


async def test_the_mark_of_an_earlier_version_is_known(store: MongoContactStore, raw: Raw) -> None:
    one = nobody()
    assert await store.change(one, changed(one), None)
    raw.contacts.update_one({"_id": one.holder_id}, {"$set": {"changedBy": b"o" * 32}})
    assert (await store.contacts(one.holder_id)).requests == (b"q" * 32, b"o" * 32)
    raw.contacts.update_one({"_id": one.holder_id}, {"$unset": {"requests": ""}})
    assert (await store.contacts(one.holder_id)).requests == (b"o" * 32,)


@pytest.mark.usefixtures("passing")
@pytest.mark.parametrize(
    ("spoilt", "error"), [({"news.0.instead": b"\x01" * 60}, VaultError), ({"news.0.topic": "tomorrow"}, ValueError)]
)
async def test_news_that_cannot_be_read_waits_alone(  # noqa: PLR0913, PLR0917  all of them fixtures
    store: MongoContactStore, own: Database, vault: Vault, raw: Raw, spoilt: dict[str, Any], error: type[Exception]
) -> None:
    bad, good = nobody(), nobody()
    for one in (bad, good):
        assert await store.change(one, changed(one), news(one))
    # A later version may know of more topics than this one and its validator.
    unguarded = raw.command(
        "update",
        "contacts",
        updates=[{"q": {"_id": bad.holder_id}, "u": {"$set": spoilt}}],
        bypassDocumentValidation=True,
    )
    assert unguarded["nModified"] == 1
    errands = {errand.errand_id: errand for errand in await book_on(store, own, vault).undone(10)}
    await errands[news(good).news_id].do()
    with pytest.raises(error):
        await errands[news(bad).news_id].do()
    assert [waiting.news_id for waiting in await store.news(10)] == [news(bad).news_id]


async def test_of_many_who_change_the_same_contacts_at_once_one_does(store: MongoContactStore) -> None:
    one = nobody()
    for before in (one, changed(one)):
        after = changed(before)
        done = await asyncio.gather(*(store.change(before, after, None) for _ in range(20)))
        assert done.count(True) == 1
        assert await store.contacts(one.holder_id) == after


async def test_a_code_that_was_replaced_since_confirms_nothing(store: MongoContactStore) -> None:
    one = nobody()
    await store.ask(one.holder_id, PENDING)
    counted = await store.count_try(one.holder_id, 5, NOW)
    assert counted is not None
    assert counted.pending == replace(PENDING, tries=1)
    await store.ask(one.holder_id, replace(PENDING, code=b"d" * 32))
    assert not await store.change(counted, replace(changed(counted), pending=None), None)
    # A change of what is declined leaves what is pending alone.
    assert await store.change(counted, changed(counted, UNTOLD), None)
    found = await store.contacts(one.holder_id)
    assert (found.version, found.pending) == (1, replace(PENDING, code=b"d" * 32))


async def test_tries_are_counted_exactly_and_none_after_the_last_or_the_end(store: MongoContactStore) -> None:
    one = nobody()
    assert await store.count_try(one.holder_id, 5, NOW) is None
    await asyncio.gather(*(store.ask(one.holder_id, PENDING) for _ in range(5)))
    assert await store.count_try(one.holder_id, 5, PENDING.expires_at) is None
    counted = await asyncio.gather(*(store.count_try(one.holder_id, 5, NOW) for _ in range(30)))
    assert sorted(one.pending.tries for one in counted if one and one.pending) == [1, 2, 3, 4, 5]


async def test_what_is_to_be_told_is_there_until_it_was(store: MongoContactStore) -> None:
    one = nobody()
    told = news(one)
    assert await store.change(one, changed(one), told)
    assert [waiting.read() for waiting in await store.news(10)] == [told]
    for _ in range(2):
        await store.carried(told)
        assert await store.news(10) == []
    assert (await store.contacts(one.holder_id)).reach == REACH


async def test_no_address_lies_there_in_plain(store: MongoContactStore, raw: Raw) -> None:
    one = nobody()
    assert await store.change(one, changed(one), news(one))
    await store.ask(one.holder_id, PENDING)
    document = str(raw.contacts.find_one({"_id": one.holder_id}))
    assert "smsDeclined" in document
    assert "mail.example" not in document


@pytest.mark.parametrize("wrong", [{"smsDeclined": ["security"]}, {"locale": "fr"}, {"email": "plain@mail.example"}])
async def test_the_server_takes_no_contacts_of_another_shape(store: MongoContactStore, raw: Raw, wrong: dict[str, Any]) -> None:
    one = nobody()
    assert await store.change(one, changed(one), None)
    with pytest.raises(WriteError):
        raw.contacts.update_one({"_id": one.holder_id}, {"$set": wrong})


async def test_a_device_is_familiar_until_its_day_and_longer_when_it_is_remembered_anew(own: Database, raw: Raw) -> None:
    store = MongoFamiliarStore(own)
    until = NOW + timedelta(days=90)
    assert await store.familiar_until(b"device") is None
    await asyncio.gather(*(store.remember(b"device", until) for _ in range(8)))
    assert await store.familiar_until(b"device") == until
    await store.remember(b"device", until + timedelta(days=2))
    assert await store.familiar_until(b"device") == until + timedelta(days=2)
    assert await store.familiar_until(b"another") is None
    raw.familiar_devices.delete_many({})
