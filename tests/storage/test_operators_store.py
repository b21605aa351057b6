import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storage.conftest import Raw

from service.ids import HolderId, InstitutionId, OperatorId, SessionId, new_id
from service.locale import Bilingual
from service.lockouts import STAFF_SIGN_IN, Lockout
from service.mongo.client import Database
from service.mongo.lockouts import MongoLockoutStore
from service.mongo.operators import MongoOperatorStore
from service.mongo.sessions import MongoSessionStore
from service.operators import Credentials, Institution, Operator
from service.sessions import STAFF_ASSURANCE, Session
from service.vault import Vault

# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)


def somebody(username: str) -> Credentials:
    place = Institution(
        InstitutionId(new_id("ins")),
        Bilingual("某支行", "An outlet"),
        "bank",
        ("990100", "990200"),
        "B901",
        "91990100PDY000010X",
    )
    operator = Operator(OperatorId(new_id("op")), username, "李四光", "bankTeller", place, disabled=False)
    return Credentials(operator, f"$argon2id$of-{username}", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")


async def put(store: MongoOperatorStore, credentials: Credentials) -> Credentials:
    await store.put_institution(credentials.operator.institution)
    assert await store.add(credentials)
    return credentials


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoOperatorStore]:
    """A store with somebody else in it, whom no test may change."""
    made = MongoOperatorStore(own, vault)
    bystander = await put(made, somebody("bystander.0001"))
    places = {"operators": bystander.operator.operator_id, "institutions": bystander.operator.institution.institution_id}
    before = {name: raw[name].find_one({"_id": key}) for name, key in places.items()}
    yield made
    assert {name: raw[name].find_one({"_id": key}) for name, key in places.items()} == before
    for name in places:
        raw[name].delete_many({})


async def test_an_operator_is_found_by_id_and_by_username(store: MongoOperatorStore) -> None:
    credentials = await put(store, somebody("li.0002"))
    assert await store.operator(credentials.operator.operator_id) == credentials.operator
    assert await store.credentials("li.0002") == credentials
    assert await store.credentials("li.0003") is None
    assert await store.operator(OperatorId(new_id("op"))) is None


async def test_nothing_about_an_operator_lies_there_in_plain(store: MongoOperatorStore, raw: Raw) -> None:
    credentials = await put(store, somebody("li.0002"))
    lying = repr(raw.operators.find_one({"_id": credentials.operator.operator_id}))
    for secret in ("li.0002", "李四光", credentials.totp_secret):
        assert secret not in lying.replace(credentials.password, "")


async def test_a_username_is_one_persons(store: MongoOperatorStore, raw: Raw) -> None:
    first = await put(store, somebody("li.0002"))
    others = await asyncio.gather(*(store.add(somebody("li.0002")) for _ in range(10)))
    assert others == [False] * 10
    assert await store.credentials("li.0002") == first
    assert raw.operators.count_documents({}) == 2


async def test_an_operator_without_an_institution_is_nobody(store: MongoOperatorStore, raw: Raw) -> None:
    credentials = await put(store, somebody("li.0002"))
    raw.institutions.delete_one({"_id": credentials.operator.institution.institution_id})
    assert await store.operator(credentials.operator.operator_id) is None
    assert await store.credentials("li.0002") is None


async def test_an_institution_is_one_document_for_all_who_work_there(store: MongoOperatorStore) -> None:
    first = await put(store, somebody("li.0002"))
    place = first.operator.institution
    second = somebody("li.0003")
    second = await put(store, replace(second, operator=replace(second.operator, institution=place)))
    await store.put_institution(replace(place, region_codes=("990300",)))
    for credentials in (first, second):
        found = await store.operator(credentials.operator.operator_id)
        assert found is not None
        assert found.institution.region_codes == ("990300",)


@pytest.mark.parametrize("readers", [1, 50])
async def test_many_who_read_at_once_each_get_their_own(store: MongoOperatorStore, readers: int) -> None:
    both = [await put(store, somebody(f"li.000{number}")) for number in (2, 3)]
    found = await asyncio.gather(*(store.operator(both[n % 2].operator.operator_id) for n in range(readers)))
    assert found == [both[n % 2].operator for n in range(readers)]


# Codes.


async def test_of_two_hundred_who_use_a_code_at_once_one_does(
    store: MongoOperatorStore, second: Database, vault: Vault
) -> None:
    credentials = await put(store, somebody("li.0002"))
    stores = (store, MongoOperatorStore(second, vault))
    used = await asyncio.gather(*(stores[n % 2].use_step(credentials, 1000) for n in range(200)))
    assert used.count(True) == 1


async def test_a_code_before_one_that_was_used_is_used_too_and_a_later_one_is_not(store: MongoOperatorStore) -> None:
    credentials = await put(store, somebody("li.0002"))
    assert await store.use_step(credentials, 1000)
    assert [await store.use_step(credentials, step) for step in (998, 999, 1000)] == [False] * 3
    assert await store.use_step(credentials, 1001)
    assert not await store.use_step(credentials, 1000)
    # By a clock that is hours ahead, and then again by the world's.
    assert [await store.use_step(credentials, step) for step in (5000, 1002, 5000, 1002)] == [True, True, False, False]


async def test_codes_that_are_long_past_are_not_kept_for_ever(store: MongoOperatorStore, raw: Raw) -> None:
    credentials = await put(store, somebody("li.0002"))
    for step in range(1000, 1100):
        assert await store.use_step(credentials, step)
    document = raw.operators.find_one({"_id": credentials.operator.operator_id})
    assert document is not None
    assert document["usedSteps"] == list(range(1084, 1100))


async def test_a_code_is_worth_nothing_to_who_was_disabled_or_has_another_password(store: MongoOperatorStore) -> None:
    credentials = await put(store, somebody("li.0002"))
    operator_id = credentials.operator.operator_id
    await store.renew(operator_id, "$argon2id$another", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert not await store.use_step(credentials, 1000)
    renewed = await store.credentials("li.0002")
    assert renewed == replace(credentials, password="$argon2id$another", totp_secret="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    await store.disable(operator_id, NOW)
    assert not await store.use_step(renewed, 1000)
    found = await store.operator(operator_id)
    assert found is not None
    assert found.disabled
    # Back again, and the codes of before are forgotten with the secret that made them.
    await store.renew(operator_id, "$argon2id$third", credentials.totp_secret)
    third = await store.credentials("li.0002")
    assert third is not None
    assert not third.operator.disabled
    assert await store.use_step(third, 1000)


async def test_disabling_again_keeps_the_moment_of_the_first_time(store: MongoOperatorStore, raw: Raw) -> None:
    operator_id = (await put(store, somebody("li.0002"))).operator.operator_id
    for moment in (NOW, NOW + timedelta(days=1)):
        await store.disable(operator_id, moment)
    document = raw.operators.find_one({"_id": operator_id})
    assert document is not None
    assert document["disabledAt"] == NOW


async def test_everybody_is_listed_in_order(store: MongoOperatorStore) -> None:
    for number in range(5):
        await put(store, somebody(f"li.000{number}"))
    listed = [operator.operator_id for operator in await store.everybody(100)]
    assert len(listed) == 6
    assert listed == sorted(listed)
    assert [operator.operator_id for operator in await store.everybody(2)] == listed[:2]


# Lockouts.

TWO = Lockout("two", 2, timedelta(minutes=10), longest=timedelta(minutes=30), remembered=timedelta(hours=1))


@pytest.fixture
async def lockouts(own: Database, raw: Raw) -> AsyncIterator[MongoLockoutStore]:
    """A store with somebody else's tries in it, which no test may change."""
    later = NOW + timedelta(days=30)
    bystander = {"_id": b"bystander", "count": 7, "last": b"l", "until": later, "expiresAt": later}
    raw.lockouts.replace_one({"_id": b"bystander"}, bystander, upsert=True)
    yield MongoLockoutStore(own)
    assert raw.lockouts.find_one({"_id": b"bystander"}) == bystander
    raw.lockouts.delete_many({})


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


async def test_the_wait_after_the_last_free_try_doubles_up_to_the_longest(lockouts: MongoLockoutStore) -> None:
    subject = secrets.token_bytes(32)
    assert await lockouts.count(subject, TWO, NOW) is None
    assert await lockouts.count(subject, TWO, NOW) is None
    assert await lockouts.count(subject, TWO, after(9.9)) == after(10)
    assert await lockouts.count(subject, TWO, after(10)) is None
    assert await lockouts.count(subject, TWO, after(29.9)) == after(30)
    assert await lockouts.count(subject, TWO, after(30)) is None
    assert await lockouts.count(subject, TWO, after(30)) == after(60)
    assert await lockouts.count(subject, TWO, after(60)) is None
    # Four times ten would be next.
    assert await lockouts.count(subject, TWO, after(60)) == after(90)


async def test_who_was_right_begins_anew(lockouts: MongoLockoutStore) -> None:
    subject = secrets.token_bytes(32)
    for _ in range(3):
        assert await lockouts.count(subject, TWO, NOW) is None
        await lockouts.forget(subject)
    await lockouts.forget(subject)


async def test_tries_are_forgotten_when_they_are_long_past(lockouts: MongoLockoutStore, raw: Raw) -> None:
    subject = secrets.token_bytes(32)
    for _ in range(2):
        assert await lockouts.count(subject, TWO, NOW) is None
    # The wait, and an hour.
    assert raw.lockouts.find_one({"_id": subject}, {"expiresAt": 1}) == {"_id": subject, "expiresAt": after(70)}
    for _ in range(2):
        assert await lockouts.count(subject, TWO, after(70)) is None
    assert await lockouts.count(subject, TWO, after(70)) == after(80)


async def test_subjects_do_not_count_for_each_other(lockouts: MongoLockoutStore) -> None:
    for subject in (secrets.token_bytes(32) for _ in range(5)):
        assert await lockouts.count(subject, TWO, NOW) is None


async def test_two_hundred_tries_at_once_over_two_connections_are_counted_exactly(
    lockouts: MongoLockoutStore, second: Database
) -> None:
    stores, subject = (lockouts, MongoLockoutStore(second)), secrets.token_bytes(32)
    answers = await asyncio.gather(*(stores[n % 2].count(subject, STAFF_SIGN_IN, NOW) for n in range(200)))
    assert answers.count(None) == 5
    assert set(answers) == {None, after(15)}
    # One who waited it out is one more, and not five.
    answers = await asyncio.gather(*(stores[n % 2].count(subject, STAFF_SIGN_IN, after(15)) for n in range(200)))
    assert answers.count(None) == 1
    assert set(answers) == {None, after(45)}


# Their sessions.


def session(operator_id: str, role: Any = "bankTeller", **more: Any) -> Session:
    return Session(
        **{
            "session_id": SessionId(new_id("ses")),
            "subject": operator_id,
            "role": role,
            "assurance": STAFF_ASSURANCE,
            "created_at": NOW,
            "refreshed_at": NOW,
            "idle_until": after(15),
            "expires_at": after(720),
            "generation": 1,
            "ended_at": None,
        }
        | more
    )


async def test_a_session_comes_back_as_whose_it_was(own: Database, raw: Raw) -> None:
    store = MongoSessionStore(own)
    for made in (session(new_id("op")), session(new_id("hld"), "holder")):
        await store.add(made, "en", None)
        assert await store.session(made.session_id) == made
        raw.sessions.delete_one({"_id": made.session_id})


async def test_a_session_of_before_there_were_operators_is_a_residents(own: Database, raw: Raw) -> None:
    store, made = MongoSessionStore(own), session(new_id("hld"), "holder")
    await store.add(made, "en", None)
    raw.sessions.update_one({"_id": made.session_id}, {"$unset": {"role": ""}})
    assert await store.session(made.session_id) == made
    advanced = await store.advance(made.session_id, 1, NOW, after(60))
    assert advanced is not None
    assert (advanced.role, advanced.generation, advanced.idle_until) == ("holder", 2, after(60))
    raw.sessions.delete_one({"_id": made.session_id})


async def test_all_sessions_of_one_operator_end_and_nobody_elses(own: Database, raw: Raw) -> None:
    store, operator_id = MongoSessionStore(own), OperatorId(new_id("op"))
    mine = [session(operator_id) for _ in range(3)]
    others = [session(new_id("op")), session(new_id("hld"), "holder")]
    for made in (*mine, *others):
        await store.add(made, "en", None)
    await store.end(mine[0].session_id, NOW, "logout")
    await store.end_all_of(operator_id, after(1), "operatorDisabled")
    ended = [raw.sessions.find_one({"_id": made.session_id}) for made in (*mine, *others)]
    assert [(d["endReason"], d["endedAt"]) for d in ended if d] == [
        ("logout", NOW),
        *[("operatorDisabled", after(1))] * 2,
        *[(None, None)] * 2,
    ]
    assert re.match("op_", operator_id)
    assert await store.live_of(HolderId(operator_id), NOW, None, 10) == []
    raw.sessions.delete_many({"_id": {"$in": [made.session_id for made in (*mine, *others)]}})
