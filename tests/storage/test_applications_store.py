import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from storage.conftest import Raw

from service.applications import Application, ApplicationStage, Due, Made, Reached
from service.errors import Refusal
from service.ids import ApplicationId, BatchId, CardId, HolderId, new_id
from service.mongo.applications import MongoApplicationStore
from service.mongo.client import Database, StorageError
from service.sandbox.invention import Inventor
from service.vault import Vault, VaultError

NOW = datetime.now(UTC).replace(microsecond=0)
INVENTOR = Inventor("applications-store")


def application(**changes: Any) -> Application:
    """A replacement that was just asked for."""
    application_id = ApplicationId(new_id("app"))
    made = Application(
        application_id=application_id,
        holder_id=HolderId(new_id("hld")),
        kind="replacement",
        region_code="990100",
        bank_code="B901",
        confirmed_by=None,
        reason="damaged",
        replaces=CardId(new_id("card")),
        locale="en",
        stages=(Reached(ApplicationStage.ACCEPTED, NOW, "hld_x", "holder", b"r" * 32),),
        version=1,
        due=(Due(f"{application_id}:1", "application_accepted", None),),
    )
    return replace(made, **changes)


def numbers() -> Made:
    return Made(
        CardId(new_id("card")),
        INVENTOR.card_number(),
        INVENTOR.identification_code("990100"),
        INVENTOR.bank_number(),
    )


def stepped(before: Application, stage: ApplicationStage, **changes: Any) -> Application:
    """The same a stage later."""
    reached = Reached(stage, NOW + timedelta(minutes=len(before.stages)), "op_x", "production", b"s" * 32)
    return replace(before, stages=(*before.stages, reached), **changes)


@pytest.fixture
async def store(own: Database, vault: Vault, raw: Raw) -> AsyncIterator[MongoApplicationStore]:
    """A store with somebody else's application in it, made and in a batch, which no test may change."""
    kept = MongoApplicationStore(own, vault)
    bystander = application(made=numbers(), batch_id=BatchId(new_id("bat")), under_test=True)
    assert await kept.add(bystander)
    before = raw.applications.find_one({"_id": bystander.application_id})
    yield kept
    assert raw.applications.find_one({"_id": bystander.application_id}) == before
    raw.applications.delete_many({})


async def test_an_application_comes_back_as_it_was_kept(store: MongoApplicationStore) -> None:
    bare, full = application(), application(kind="firstCard", replaces=None, reason=None, confirmed_by="employer")
    full = replace(full, made=numbers(), batch_id=BatchId(new_id("bat")), under_test=True)
    for one in (bare, full):
        assert await store.add(one)
        assert await store.application(one.application_id) == one
        assert await store.running(one.holder_id, one.kind) == one
    assert await store.application(ApplicationId(new_id("app"))) is None


async def test_a_change_sets_what_is_new_and_appends_what_happened(store: MongoApplicationStore) -> None:
    before = application()
    await store.add(before)
    made, batch_id = numbers(), BatchId(new_id("bat"))
    after = stepped(before, ApplicationStage.IN_PRODUCTION, made=made, batch_id=batch_id, under_test=True)
    after = replace(after, due=before.owing(None))
    changed = await store.change(before, after)
    assert changed == replace(after, version=2)
    assert await store.application(before.application_id) == changed
    # What was done meanwhile is not brought back.
    await store.settled(before, before.due)
    back = replace(stepped(changed, ApplicationStage.ACCEPTED), made=None, batch_id=None, under_test=False)
    again = await store.change(changed, replace(back, due=changed.owing(None, made.card_id)))
    assert again is not None
    assert (again.made, again.batch_id, again.under_test, again.version) == (None, None, False, 3)
    assert [due.discard for due in again.due] == [None, made.card_id]
    assert [reached.stage for reached in again.stages] == ["accepted", "inProduction", "accepted"]


async def test_an_application_that_is_so_no_longer_is_not_changed(store: MongoApplicationStore, raw: Raw) -> None:
    before = application()
    await store.add(before)
    after = stepped(before, ApplicationStage.BANK_PRE_OPENED)
    assert await store.change(before, after) is not None
    kept = raw.applications.find_one({"_id": before.application_id})
    assert await store.change(before, after) is None
    assert await store.change(application(), after) is None
    assert raw.applications.find_one({"_id": before.application_id}) == kept


async def test_of_many_changes_at_once_one_is_made(store: MongoApplicationStore) -> None:
    before = application()
    await store.add(before)
    after = stepped(before, ApplicationStage.BANK_PRE_OPENED)
    changes = await asyncio.gather(*(store.change(before, after) for _ in range(20)))
    assert sum(change is not None for change in changes) == 1


async def test_a_person_has_one_of_a_kind_under_way(store: MongoApplicationStore, raw: Raw) -> None:
    first = application()
    others = [application(holder_id=first.holder_id) for _ in range(20)]
    kept = await asyncio.gather(*(store.add(one) for one in (first, *others)))
    assert sum(kept) == 1
    assert await store.add(application(holder_id=first.holder_id, kind="firstCard"))
    running = await store.running(first.holder_id, "replacement")
    assert running is not None
    ended = stepped(running, ApplicationStage.REJECTED, rejection="withdrawn")
    assert await store.change(running, ended) is not None
    assert await store.running(first.holder_id, "replacement") is None
    assert await store.add(application(holder_id=first.holder_id))
    assert raw.applications.count_documents({"holderId": first.holder_id, "running": True}) == 2


async def test_the_same_application_is_kept_once(store: MongoApplicationStore) -> None:
    one = application()
    assert await store.add(one)
    assert not await store.add(replace(one, reason="lost"))
    found = await store.application(one.application_id)
    assert found is not None
    assert found.reason == "damaged"


@pytest.mark.parametrize("field", ["card_id", "identification_code", "bank_account"])
async def test_no_two_applications_have_a_number_of_a_card_in_common(store: MongoApplicationStore, field: str) -> None:
    first, second, made = application(), application(), numbers()
    for one in (first, second):
        await store.add(one)
    other: dict[str, Any] = {field: getattr(made, field)}
    assert await store.change(first, stepped(first, ApplicationStage.IN_PRODUCTION, made=made)) is not None
    taken = stepped(second, ApplicationStage.IN_PRODUCTION, made=replace(numbers(), **other))
    with pytest.raises(Refusal) as refused:
        await store.change(second, taken)
    assert refused.value.code == "card_number_taken"
    assert await store.application(second.application_id) == second


async def test_lists_are_of_whom_they_are_asked_for_newest_first(store: MongoApplicationStore) -> None:
    holder_id = HolderId(new_id("hld"))
    made = []
    for number in range(5):
        reached = Reached(ApplicationStage.REJECTED, NOW + timedelta(hours=number // 2), "op_x", "production", b"s")
        made.append(application(holder_id=holder_id, stages=(reached,), region_code="990400", bank_code=f"B90{number % 2}"))
        assert await store.add(made[-1])
    made.sort(key=lambda one: (one.created_at, one.application_id), reverse=True)
    assert await store.of_holder(holder_id, None, 9) == made
    after = (made[1].created_at, made[1].application_id)
    assert await store.of_holder(holder_id, after, 2) == made[2:4]
    assert await store.of_regions({"990400", "990500"}, None, None, None, 9) == made
    assert await store.of_regions({"990400"}, None, "B901", None, 9) == [one for one in made if one.bank_code == "B901"]
    assert await store.of_regions({"990400"}, ApplicationStage.ACCEPTED, None, None, 9) == []
    assert await store.of_regions({"990500"}, None, None, None, 9) == []


async def test_what_is_due_is_found_until_it_is_done(store: MongoApplicationStore) -> None:
    one = application()
    await store.add(one)
    assert one in await store.owing(10)
    await store.settled(one, one.due)
    await store.settled(one, one.due)
    done = await store.application(one.application_id)
    assert done == replace(one, due=())
    assert done not in await store.owing(10)


async def test_a_batch_finds_its_own_that_are_under_way(store: MongoApplicationStore) -> None:
    batch_id = BatchId(new_id("bat"))
    tested = application(batch_id=batch_id, under_test=True)
    passed = application(batch_id=batch_id)
    over = stepped(application(batch_id=batch_id, under_test=True), ApplicationStage.REJECTED)
    for one in (tested, passed, over, application()):
        await store.add(one)
    found = await store.in_batch(batch_id, 10, under_test=False)
    assert {one.application_id for one in found} == {tested.application_id, passed.application_id}
    assert await store.in_batch(batch_id, 10, under_test=True) == [tested]
    assert len(await store.in_batch(batch_id, 1, under_test=False)) == 1


async def test_the_numbers_of_a_new_card_lie_there_sealed_for_their_application(store: MongoApplicationStore, raw: Raw) -> None:
    one, other = application(made=numbers()), application(made=numbers())
    for each in (one, other):
        await store.add(each)
    assert one.made is not None
    lying = str(raw.applications.find_one({"_id": one.application_id}))
    for number in (one.made.number, one.made.identification_code, one.made.bank_account):
        assert number not in lying
    moved = raw.applications.find_one({"_id": one.application_id})
    assert moved is not None
    raw.applications.update_one({"_id": other.application_id}, {"$set": {"made.number": moved["made"]["number"]}})
    with pytest.raises(VaultError):
        await store.application(other.application_id)


async def test_the_database_itself_refuses_what_is_no_application(own: Database, store: MongoApplicationStore) -> None:
    for change in ({"$set": {"name": "张伟"}}, {"$set": {"stage": "thrownAway"}}, {"$set": {"running": False}}):
        one = application()
        await store.add(one)
        with pytest.raises(StorageError):
            await own.collection("applications").update({"_id": one.application_id}, change)
