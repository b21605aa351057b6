"""E-cards and codes on a real database: one of each, one winner of each race, and nobody else's touched."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storage.conftest import Raw

from service.ecard_codes import KNOWN, EcardCode, Redemption
from service.ecards import MOST_TRIES, Ecard, News, ecard_id_of
from service.ids import CardId, HolderId, OperatorId, RedemptionId, new_id
from service.mongo.client import Database
from service.mongo.ecards import MongoEcardCodeStore, MongoEcardStore

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)


def made(**instead: Any) -> Ecard:
    holder_id = HolderId(new_id("hld"))
    ecard = Ecard(
        ecard_id=ecard_id_of(holder_id),
        holder_id=holder_id,
        card_id=CardId(new_id("card")),
        level=2,
        password="argon2id",
        wrong_tries=0,
        version=1,
        applied_at=NOW,
        changed_at=NOW,
        requests=(b"r" * 32,),
    )
    return replace(ecard, **instead)


def news_of(ecard: Ecard) -> News:
    return News(f"{ecard.ecard_id}:{ecard.version}", ecard.ecard_id, "ecardApplied", NOW, ecard.holder_id, "zh-CN")


def code_of(ecard: Ecard, code: bytes) -> EcardCode:
    return EcardCode(
        ecard_id=ecard.ecard_id,
        holder_id=ecard.holder_id,
        card_id=ecard.card_id,
        code=code,
        level=1,
        ecard_version=ecard.version,
        asked_by=ecard.holder_id,
        expires_at=NOW + timedelta(seconds=60),
        redemption=None,
    )


def redemption(number: int) -> Redemption:
    return Redemption(RedemptionId(new_id("red")), NOW + timedelta(milliseconds=number), OperatorId(new_id("op")))


@pytest.fixture
def store(own: Database) -> MongoEcardStore:
    return MongoEcardStore(own)


@pytest.fixture
def codes(own: Database) -> MongoEcardCodeStore:
    return MongoEcardCodeStore(own)


@pytest.fixture(autouse=True)
async def bystander(store: MongoEcardStore, codes: MongoEcardCodeStore) -> AsyncIterator[None]:
    """Somebody else's e-card and code, which nothing here may change."""
    other = made()
    assert await store.change(None, other, news_of(other))
    await store.carried(news_of(other))
    code = code_of(other, new_id("x").encode())
    await codes.put(code)
    yield
    assert await store.ecard(other.ecard_id) == other
    assert await codes.find(code.code) == code


async def test_what_is_kept_comes_back(store: MongoEcardStore, raw: Raw) -> None:
    ecard = made()
    assert await store.change(None, ecard, news_of(ecard))
    assert await store.ecard(ecard.ecard_id) == ecard
    assert [one for one in await store.news(1000) if one.ecard_id == ecard.ecard_id] == [news_of(ecard)]
    document = raw["ecards"].find_one({"_id": ecard.ecard_id})
    assert document is not None
    assert "status" not in document


async def test_of_many_that_make_it_at_once_one_does(store: MongoEcardStore, second: Database) -> None:
    ecard = made()
    stores = [store, MongoEcardStore(second)] * 25
    done = await asyncio.gather(*(one.change(None, ecard, news_of(ecard)) for one in stores))
    assert sum(done) == 1


async def test_of_many_that_change_it_at_once_one_does(store: MongoEcardStore, second: Database) -> None:
    before = made()
    assert await store.change(None, before, news_of(before))
    after = replace(before, level=1, version=2)
    stores = [store, MongoEcardStore(second)] * 25
    done = await asyncio.gather(*(one.change(before, after, news_of(after)) for one in stores))
    assert sum(done) == 1
    assert not await store.change(before, after, news_of(after))


async def test_guesses_are_counted_one_by_one_and_end(store: MongoEcardStore, second: Database) -> None:
    ecard = made()
    assert await store.change(None, ecard, news_of(ecard))
    stores = [store, MongoEcardStore(second)] * 20
    counted = await asyncio.gather(*(one.count_try(ecard, MOST_TRIES) for one in stores))
    assert sorted(one.wrong_tries for one in counted if one) == [1, 2, 3, 4, 5]


async def test_a_right_guess_gives_back_its_own_and_those_before_and_no_later_one(store: MongoEcardStore) -> None:
    ecard = made()
    assert await store.change(None, ecard, news_of(ecard))
    first, second = await store.count_try(ecard, MOST_TRIES), await store.count_try(ecard, MOST_TRIES)
    assert first is not None
    assert second is not None
    await store.give_back_tries(first)
    kept = await store.ecard(ecard.ecard_id)
    assert kept is not None
    assert kept.wrong_tries == 1


async def test_a_guess_at_a_password_that_is_another_by_now_is_not_counted_against_it(store: MongoEcardStore) -> None:
    before = made()
    assert await store.change(None, before, news_of(before))
    await store.count_try(before, MOST_TRIES)
    after = replace(before, password="another", version=2)
    assert await store.change(before, after, news_of(after))
    assert await store.count_try(before, MOST_TRIES) is None
    kept = await store.ecard(before.ecard_id)
    assert kept is not None
    assert kept.wrong_tries == 0


async def test_a_change_that_leaves_the_password_leaves_the_guesses(store: MongoEcardStore) -> None:
    before = made()
    assert await store.change(None, before, news_of(before))
    await store.count_try(before, MOST_TRIES)
    after = replace(before, level=1, version=2)
    assert await store.change(before, after, news_of(after))
    kept = await store.ecard(before.ecard_id)
    assert kept is not None
    assert kept.wrong_tries == 1


async def test_news_is_told_once_and_carried_once(store: MongoEcardStore) -> None:
    ecard = made()
    assert await store.change(None, ecard, news_of(ecard))
    locked = News(f"{ecard.ecard_id}:locked", ecard.ecard_id, "ecardLocked", NOW, ecard.holder_id, "en")
    await asyncio.gather(*(store.tell(locked) for _ in range(5)))
    waiting = [one for one in await store.news(1000) if one.ecard_id == ecard.ecard_id]
    assert waiting == [news_of(ecard), locked]
    for _ in range(2):
        await store.carried(locked)
    assert [one for one in await store.news(1000) if one.ecard_id == ecard.ecard_id] == [news_of(ecard)]


async def test_a_newer_code_takes_the_place_and_the_older_ones_lead_to_it(codes: MongoEcardCodeStore) -> None:
    ecard = made()
    marks = [f"{ecard.ecard_id}{number}".encode() for number in range(KNOWN + 2)]
    for mark in marks:
        await codes.put(code_of(ecard, mark))
    newest = code_of(ecard, marks[-1])
    assert [await codes.find(mark) for mark in marks] == [None, None, *[newest] * KNOWN]
    assert not await codes.redeem(code_of(ecard, marks[-2]), redemption(0))
    assert await codes.redeem(newest, redemption(0))


async def test_a_code_is_redeemed_by_one_of_many_and_by_all_without_the_guard(
    codes: MongoEcardCodeStore, own: Database, second: Database
) -> None:
    ecard = made()
    code = code_of(ecard, f"{ecard.ecard_id}!".encode())
    await codes.put(code)
    stores = [codes, MongoEcardCodeStore(second)] * 50
    done = await asyncio.gather(*(one.redeem(code, redemption(number)) for number, one in enumerate(stores)))
    assert sum(done) == 1
    # Reading first and writing then, as one might: everybody has seen that it was not used.
    await codes.put(code_of(ecard, b"another of the same" + ecard.ecard_id.encode()))
    collection = own.collection("ecard_codes")

    async def naive() -> bool:
        found = await collection.find_one({"_id": ecard.ecard_id})
        await asyncio.sleep(0)
        assert found is not None
        if found["redemption"] is not None:
            return False
        return await collection.update({"_id": ecard.ecard_id}, {"$set": {"redemption": {"id": "x", "at": NOW, "by": "y"}}})

    assert sum(await asyncio.gather(*(naive() for _ in range(20)))) > 1


async def test_a_code_is_claimed_by_one_of_many_operators_and_by_that_one_again(
    codes: MongoEcardCodeStore, own: Database, second: Database
) -> None:
    ecard = made()
    code = code_of(ecard, f"{ecard.ecard_id}claimed".encode())
    await codes.put(code)
    # As a code of an earlier version lies there.
    await own.collection("ecard_codes").update({"_id": ecard.ecard_id}, {"$unset": {"claimedBy": ""}})
    operators = [OperatorId(new_id("op")) for _ in range(50)]
    stores = [codes, MongoEcardCodeStore(second)] * 25
    done = await asyncio.gather(*(one.claim(code, who, NOW) for one, who in zip(stores, operators, strict=True)))
    assert sum(done) == 1
    again = await asyncio.gather(*(codes.claim(code, who, NOW) for who in operators))
    assert again == done
    winner = operators[done.index(True)]
    assert not await codes.claim(code, winner, code.expires_at)
    assert await codes.redeem(code, replace(redemption(0), by=winner))
    assert not await codes.claim(code, winner, NOW)
    await codes.put(replace(code, code=f"{ecard.ecard_id}newer".encode()))
    assert not await codes.claim(code, winner, NOW)


async def test_a_code_that_ran_out_is_not_redeemed(codes: MongoEcardCodeStore) -> None:
    ecard = made()
    code = code_of(ecard, f"{ecard.ecard_id}?".encode())
    await codes.put(code)
    late = replace(redemption(0), at=code.expires_at)
    assert not await codes.redeem(code, late)
    assert await codes.redeem(code, replace(late, at=code.expires_at - timedelta(milliseconds=1)))


async def test_the_first_codes_of_an_ecard_at_once_make_one_document(codes: MongoEcardCodeStore, raw: Raw) -> None:
    ecard = made()
    await asyncio.gather(*(codes.put(code_of(ecard, f"{ecard.ecard_id}{number}".encode())) for number in range(20)))
    assert raw["ecard_codes"].count_documents({"holderId": ecard.holder_id}) == 1
