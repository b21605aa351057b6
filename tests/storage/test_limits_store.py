import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from storage.conftest import Commands, Raw

from service.clock import Clock
from service.config import Config
from service.errors import Refusal
from service.limits import Limit, Limits, Pace, Place
from service.mongo.client import Database
from service.mongo.limits import MongoLimitStore
from service.vault import Vault

THREE = Limit("three", 3, timedelta(minutes=10))
# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)
BYSTANDER = {
    "_id": b"bystander",
    "tries": [{"name": b"t", "at": NOW}],
    "places": [{"name": b"p", "at": NOW, "guess": b"g"}],
    "expiresAt": NOW,
}


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
async def store(own: Database, raw: Raw) -> AsyncIterator[MongoLimitStore]:
    """A store with somebody else's tries in it, which no test may change."""
    raw.limits.replace_one({"_id": b"bystander"}, BYSTANDER, upsert=True)
    yield MongoLimitStore(own)
    assert raw.limits.find_one({"_id": b"bystander"}) == BYSTANDER
    raw.limits.delete_many({})


@pytest.fixture
def subject() -> bytes:
    return secrets.token_bytes(32)


class _Stopped(Clock):
    """A clock that stands where it is put."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def now(self) -> datetime:
        return self.at


async def test_a_limit_looks_back_from_now_and_not_from_the_hour(store: MongoLimitStore, subject: bytes) -> None:
    for minutes in (0, 4, 9):
        assert await store.hit(subject, THREE, after(minutes)) is None
    # Of 0, 4 and 9 the first leaves the window at 10, the second at 14.
    assert await store.hit(subject, THREE, after(9.9)) == after(10)
    assert await store.hit(subject, THREE, after(10)) is None
    assert await store.hit(subject, THREE, after(13.9)) == after(14)
    assert await store.hit(subject, THREE, after(14)) is None
    assert await store.hit(subject, THREE, after(18.9)) == after(19)


async def test_a_try_that_was_refused_does_not_count(store: MongoLimitStore, subject: bytes) -> None:
    for _ in range(3):
        assert await store.hit(subject, THREE, NOW) is None
    for minute in range(10):
        assert await store.hit(subject, THREE, after(minute)) == after(10)
    for _ in range(3):
        assert await store.hit(subject, THREE, after(10)) is None


async def test_two_hundred_at_once_over_two_connections_are_counted_exactly(
    store: MongoLimitStore, second: Database, subject: bytes, raw: Raw
) -> None:
    stores = (store, MongoLimitStore(second))
    forty = Limit("forty", 40, timedelta(minutes=10))
    answers = await asyncio.gather(*(stores[n % 2].hit(subject, forty, NOW) for n in range(200)))
    assert answers.count(None) == 40
    assert set(answers) == {None, after(10)}
    document = raw.limits.find_one({"_id": subject})
    assert document is not None
    assert len(document["tries"]) == 40


async def test_subjects_do_not_count_for_each_other(store: MongoLimitStore, subject: bytes) -> None:
    for _ in range(3):
        assert await store.hit(subject, THREE, NOW) is None
    assert await store.hit(secrets.token_bytes(32), THREE, NOW) is None
    assert await store.hit(subject, THREE, NOW) is not None


async def test_a_document_goes_by_itself_when_its_last_window_has_passed(
    store: MongoLimitStore, subject: bytes, raw: Raw
) -> None:
    for minutes in (0, 3):
        await store.hit(subject, THREE, after(minutes))
        document = raw.limits.find_one({"_id": subject})
        assert document is not None
        assert document["expiresAt"] == after(minutes + 10)
    await store.hit(subject, THREE, after(60))
    document = raw.limits.find_one({"_id": subject})
    assert document is not None
    assert [entry["at"] for entry in document["tries"]] == [after(60)]


async def _place(store: MongoLimitStore, subject: bytes, guess: bytes, at: datetime = NOW) -> Place:
    place = await store.reserve(subject, THREE, guess, at)
    assert isinstance(place, Place)
    return place


async def test_places_are_held_by_different_guesses_and_shared_by_the_same(store: MongoLimitStore, subject: bytes) -> None:
    places = [await _place(store, subject, guess) for guess in (b"a", b"b", b"c")]
    assert await store.reserve(subject, THREE, b"d", after(1)) == after(10)
    again = await _place(store, subject, b"a", after(1))
    assert again not in places
    # One of two who judge the same guess is done; the other's place still counts.
    await store.give_back(again)
    assert await store.reserve(subject, THREE, b"d", after(1)) == after(10)
    await store.give_back(places[0])
    assert isinstance(await store.reserve(subject, THREE, b"d", after(1)), Place)


async def test_a_place_that_is_given_back_is_free_and_giving_it_back_again_changes_nothing(
    store: MongoLimitStore, subject: bytes, raw: Raw
) -> None:
    kept, given = await _place(store, subject, b"a"), await _place(store, subject, b"b")
    for _ in range(2):
        await store.give_back(given)
        document = raw.limits.find_one({"_id": subject})
        assert document is not None
        assert [entry["name"] for entry in document["places"]] == [kept.name]


async def test_a_guess_whose_process_died_keeps_its_place_until_the_window_ends(store: MongoLimitStore, subject: bytes) -> None:
    await _place(store, subject, b"dead")
    for _ in range(2):
        assert await store.hit(subject, THREE, after(1)) is None
    assert await store.reserve(subject, THREE, b"a", after(9.9)) == after(10)
    assert isinstance(await store.reserve(subject, THREE, b"a", after(10)), Place)


async def test_whom_nothing_stands_against_holds_a_place_by_one_write_and_others_do_not(
    config: Config, store: MongoLimitStore, subject: bytes, raw: Raw
) -> None:
    heard = Commands()
    uri, name = config.mongodb_uri.get_secret_value(), raw.name
    async with Database(uri, name, deadline_seconds=5, pool=2, listeners=[heard]) as database:
        watched = MongoLimitStore(database)
        for _ in range(2):
            heard.sent.clear()
            place = await _place(watched, subject, b"a", after(1))
            assert heard.names == ["update"]
            assert raw.limits.find_one({"_id": subject}) == {
                "_id": subject,
                "tries": [],
                "places": [{"name": place.name, "at": after(1), "guess": b"a"}],
                "expiresAt": after(11),
            }
            await watched.give_back(place)
        await store.hit(subject, THREE, after(1))
        heard.sent.clear()
        await _place(watched, subject, b"a", after(1))
        assert heard.names == ["update", "update", "find"]


async def test_a_place_is_no_try_and_a_wrong_guess_is_one(store: MongoLimitStore, vault: Vault, raw: Raw) -> None:
    limits = Limits(store, vault, _Stopped(NOW))
    for wrong in (False, True, True, False):
        place = await limits.reserve(THREE, "somebody", "guess")
        await (limits.miss(place) if wrong else limits.free(place))
    (document,) = raw.limits.find({"_id": {"$ne": b"bystander"}})
    assert (len(document["tries"]), document["places"]) == (2, [])


async def test_a_wrong_guess_that_is_one_too_many_is_refused_and_leaves_no_place_behind(
    store: MongoLimitStore, vault: Vault, raw: Raw
) -> None:
    limits = Limits(store, vault, _Stopped(NOW))
    # Two judge the same guess at once, in the last place there is.
    for _ in range(2):
        await limits.hit(THREE, "somebody")
    first, slower = [await limits.reserve(THREE, "somebody", "guess") for _ in range(2)]
    await limits.miss(first)
    with pytest.raises(Refusal) as refused:
        await limits.miss(slower)
    assert refused.value.retry_after == 600
    (document,) = raw.limits.find({"_id": {"$ne": b"bystander"}})
    assert (len(document["tries"]), document["places"]) == (3, [])


async def test_of_two_hundred_different_guesses_at_once_no_more_are_judged_than_the_limit_has(
    store: MongoLimitStore, second: Database, vault: Vault, raw: Raw
) -> None:
    both = [Limits(one, vault, _Stopped(NOW)) for one in (store, MongoLimitStore(second))]
    judged = 0

    async def guess(number: int) -> None:
        nonlocal judged
        limits = both[number % 2]
        try:
            place = await limits.reserve(THREE, "somebody", str(number))
        except Refusal:
            return
        judged += 1
        await limits.miss(place)

    await asyncio.gather(*(guess(number) for number in range(200)))
    assert judged == 3
    (document,) = raw.limits.find({"_id": {"$ne": b"bystander"}})
    assert (len(document["tries"]), document["places"]) == (3, [])


async def test_different_ones_are_counted_once_each_and_leave_with_their_last_time(
    store: MongoLimitStore, subject: bytes, raw: Raw
) -> None:
    for minute, item in enumerate((b"a", b"b", b"a", b"c", b"a")):
        assert await store.count_distinct(subject, THREE, item, after(minute)) is None
    # b was there at minute 1, and a last at minute 4.
    assert await store.count_distinct(subject, THREE, b"d", after(5)) == after(11)
    assert await store.count_distinct(subject, THREE, b"c", after(6)) is None
    (document,) = raw.limits.find({"_id": subject})
    assert sorted(place["guess"] for place in document["places"]) == [b"a", b"b", b"c"]
    assert await store.count_distinct(subject, THREE, b"d", after(11)) is None
    assert await store.count_distinct(subject, THREE, b"b", after(12)) == after(14)
    assert await store.count_distinct(subject, THREE, b"b", after(14)) is None


async def test_of_many_different_ones_at_once_as_many_pass_as_may(store: MongoLimitStore, subject: bytes) -> None:
    items = [f"{number % 20}".encode() for number in range(100)]
    answers = await asyncio.gather(*(store.count_distinct(subject, THREE, item, NOW) for item in items))
    passed = {item for item, free_at in zip(items, answers, strict=True) if free_at is None}
    assert len(passed) == 3
    assert all((free_at is None) == (item in passed) for item, free_at in zip(items, answers, strict=True))


@pytest.mark.parametrize(("waited", "left"), [(0, 600), (0.0001, 600), (9.5, 30), (9.999, 1)])
async def test_a_refusal_says_after_how_many_seconds_it_is_worth_trying(
    store: MongoLimitStore, vault: Vault, waited: float, left: int
) -> None:
    clock = _Stopped(NOW)
    limits = Limits(store, vault, clock)
    for _ in range(3):
        await limits.hit(THREE, "somebody")
    clock.at = after(waited)
    with pytest.raises(Refusal) as refused:
        await limits.hit(THREE, "somebody")
    assert (refused.value.code, refused.value.retry_after) == ("rate_limited", left)
    clock.at += timedelta(seconds=left)
    await limits.hit(THREE, "somebody")


async def test_an_address_is_given_more_room_where_many_share_one(store: MongoLimitStore, vault: Vault) -> None:
    limits = Limits(store, vault, _Stopped(NOW), address_factor=10)
    for _ in range(30):
        await limits.hit_address(THREE, "127.0.0.1")
    with pytest.raises(Refusal):
        await limits.hit_address(THREE, "127.0.0.1")


async def test_nobody_is_recognised_by_what_is_counted(store: MongoLimitStore, vault: Vault, raw: Raw) -> None:
    limits = Limits(store, vault, _Stopped(NOW))
    other = Limit("other", 3, timedelta(minutes=10))
    for limit in (THREE, other):
        await limits.hit(limit, "11010519491231002X")
        await limits.reserve(limit, "11010519491231002X", "A12345670")
    documents = [document for document in raw.limits.find() if document["_id"] != b"bystander"]
    assert len(documents) == 2
    assert all(number not in repr(documents) for number in ("11010519491231002X", "A12345670"))


def test_look_ups_are_paced_one_by_one_and_forgotten_when_told() -> None:
    pace = Pace(THREE)
    for minutes in (0, 4, 9):
        pace.hit("a", after(minutes))
    pace.hit("b", after(9))
    with pytest.raises(Refusal) as refused:
        pace.hit("a", after(9))
    assert refused.value.retry_after == 60
    pace.hit("a", after(10))
    with pytest.raises(Refusal) as refused:
        pace.hit("a", after(10))
    assert refused.value.retry_after == 4 * 60
    pace.forget()
    pace.hit("a", after(10))
