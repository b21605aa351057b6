import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from storage.conftest import Raw

from service.consents import Consent, Purpose, Turn, consent_id_of
from service.ids import HolderId, derived_id
from service.mongo.client import Database, StorageError
from service.mongo.consents import MongoConsentStore

NOW = datetime.now(UTC).replace(microsecond=0)
SOMEBODY = HolderId(derived_id("hld", "somebody"))
PURPOSE = Purpose.COUNTER_LOOK_UP
UNASKED = Consent(consent_id_of(SOMEBODY, PURPOSE), SOMEBODY, PURPOSE, ())
GIVEN = Turn("given", NOW, "app", 1, b"r" * 32)
WITHDRAWN = replace(GIVEN, turn="withdrawn", at=NOW + timedelta(hours=1), request=b"s" * 32)


def _other(key: str) -> Consent:
    holder_id = HolderId(derived_id("hld", key))
    return Consent(consent_id_of(holder_id, PURPOSE), holder_id, PURPOSE, (GIVEN,))


@pytest.fixture
async def store(own: Database, raw: Raw) -> AsyncIterator[MongoConsentStore]:
    """A store with somebody else's consent in it, which no test may change."""
    made = MongoConsentStore(own)
    await made.put(_other("bystander"))
    bystander = {"_id": _other("bystander").consent_id}
    before = raw.consents.find_one(bystander)
    assert before is not None
    yield made
    assert raw.consents.find_one(bystander) == before
    raw.consents.delete_many({})


async def test_what_was_said_comes_back_as_it_was_said(store: MongoConsentStore) -> None:
    assert await store.consent(UNASKED.consent_id, SOMEBODY) is None
    assert await store.turn(UNASKED, GIVEN, "en")
    given = replace(UNASKED, turns=(GIVEN,))
    assert await store.consent(UNASKED.consent_id, SOMEBODY) == given
    assert await store.turn(given, WITHDRAWN, "en")
    assert await store.consents_of(SOMEBODY) == [replace(UNASKED, turns=(GIVEN, WITHDRAWN))]
    assert await store.consent(UNASKED.consent_id, HolderId(derived_id("hld", "stranger"))) is None


async def test_of_many_turns_at_once_from_two_processes_one_is_written(
    store: MongoConsentStore, second: Database, raw: Raw
) -> None:
    stores = (store, MongoConsentStore(second))
    for before, turn in ((UNASKED, GIVEN), (replace(UNASKED, turns=(GIVEN,)), WITHDRAWN)):
        wrote = await asyncio.gather(*(stores[number % 2].turn(before, turn, "en") for number in range(40)))
        assert wrote.count(True) == 1
    (found,) = raw.consents.find({"_id": UNASKED.consent_id})
    assert [turn["turn"] for turn in found["turns"]] == ["given", "withdrawn"]
    assert len(found["news"]) == 2


async def test_a_turn_is_seen_by_another_process_at_once(store: MongoConsentStore, second: Database) -> None:
    elsewhere = MongoConsentStore(second)
    consent = UNASKED
    for number in range(20):
        turn = replace(WITHDRAWN if number % 2 else GIVEN, at=NOW + timedelta(minutes=number))
        assert await store.turn(consent, turn, "en")
        consent = replace(consent, turns=(*consent.turns, turn))
        assert await elsewhere.consent(consent.consent_id, SOMEBODY) == consent


async def test_the_news_of_a_turn_waits_until_it_is_carried_and_carrying_it_again_does_nothing(
    store: MongoConsentStore,
) -> None:
    await store.turn(UNASKED, GIVEN, "en")
    await store.turn(replace(UNASKED, turns=(GIVEN,)), WITHDRAWN, "zh-CN")
    first, second = await store.news(10)
    assert [(news.turn, news.wording, news.locale) for news in (first, second)] == [
        ("given", 1, "en"),
        ("withdrawn", 1, "zh-CN"),
    ]
    await store.carried(first)
    await store.carried(first)
    assert await store.news(10) == [second]
    await store.carried(second)
    assert await store.news(10) == []


async def test_the_database_takes_no_consent_to_something_else(store: MongoConsentStore) -> None:
    odd = replace(_other("odd"), purpose="marketing")  # type: ignore[arg-type]  # no purpose of ours, on purpose
    with pytest.raises(StorageError):
        await store.put(odd)
