"""Imports into a real database: what they add, what they leave alone, and who has the lock."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import bson
import pytest
from faults.workers import Wire
from storage.conftest import Empty, Raw, activate

from service.cards import Activation, Status
from service.config import Config
from service.errors import Refusal
from service.holders import Holder
from service.ids import ActivationId, CardId, HolderId, new_id
from service.import_files import Lines, Place, RejectedFile, SourceFile
from service.import_runs import Batch, Counts, ImportRun, PreparedRow, Progress, RunError
from service.import_workers import Desk, WorkerPlan
from service.keyring import Keyring, save_keyring
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database, StorageError
from service.mongo.holders import MongoHolderStore
from service.mongo.imports import MongoRunStore
from service.mongo.migrations import migrate
from service.regions import SHIPPED, Regions
from service.sandbox.population import Fields, Population
from service.vault import Vault

REGIONS: Final = Regions.load_directory(SHIPPED)
Import = Callable[[Sequence[Mapping[str, Any]]], Awaitable[tuple[Counts, list[dict[str, Any]]]]]


def people(cards: int, number: int | None = None, seed: str = "1") -> list[Fields]:
    """Rows of active and other cards."""
    return list(Population(list(REGIONS), cards=cards, people=number or cards, seed=seed, mix="mixed").rows())


def active(seed: str = "1") -> Fields:
    return next(row for row in people(200, seed=seed) if row["status"] == "active")


@pytest.fixture
async def place(empty: Empty) -> tuple[Database, Raw]:
    """A migrated database of one's own."""
    database, raw = await empty()
    await migrate(database, print)
    return database, raw


@pytest.fixture
def desk(ring: Keyring, tmp_path: Path) -> Desk:
    save_keyring(tmp_path / "keyring.json", ring)
    return Desk(WorkerPlan(tmp_path / "keyring.json", SHIPPED, sandbox=True, columns=None))


async def go(database: Database, desk: Desk, path: Path, rejected: Path, run: str = "run") -> Progress:
    """An import as a process does it, but for the worker processes."""

    async def prepare(lines: Lines) -> Batch:
        return desk.judge(lines)

    with SourceFile(path) as source, RejectedFile(rejected) as file:
        made = ImportRun(
            run=run,
            source=source,
            rejected=file,
            store=MongoRunStore(database),
            prepare=prepare,
            ahead=3,
            tell=lambda _: None,
            say=print,
        )
        return await made.go(start_over=False, skip_header=lambda _: None)


@pytest.fixture
def take(place: tuple[Database, Raw], desk: Desk, tmp_path: Path) -> Import:
    """Imports rows as a file of their own; what was counted, and the complaints."""
    numbers = count()

    async def take(rows: Sequence[Mapping[str, Any]]) -> tuple[Counts, list[dict[str, Any]]]:
        number = next(numbers)
        path, rejected = tmp_path / f"{number}.ndjson", tmp_path / f"{number}.rejected"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        progress = await go(place[0], desk, path, rejected, f"run{number}")
        assert progress.done
        return progress.counts, [json.loads(line) for line in rejected.read_text().splitlines()]

    return take


def everything(raw: Raw) -> list[dict[str, Any]]:
    """Every card and person as they lie there."""
    return [*raw["cards"].find(sort=[("_id", 1)]), *raw["holders"].find(sort=[("_id", 1)])]


async def test_rows_become_cards_and_people_that_the_stores_find(
    place: tuple[Database, Raw], take: Import, vault: Vault
) -> None:
    rows = people(2500, 2000)
    counts, complaints = await take(rows)
    assert (counts, complaints) == (Counts(people_added=2000, cards_added=2500), [])
    cards, holders = MongoCardStore(place[0], vault), MongoHolderStore(place[0], vault)
    for row in rows[::100]:
        owned = await cards.by_number(str(row["regionCode"]), str(row["cardNumber"]))
        holder = await holders.holder_by_number(str(row["idNumber"]))
        assert owned is not None
        assert holder is not None
        assert owned.id_number == holder.id_number == row["idNumber"]
        assert owned.card.holder_id == holder.holder_id
        assert (owned.card.identification_code, owned.card.holder_name) == (row["identificationCode"], row["holderName"])
        assert (owned.card.stored_status, owned.card.stage) == (row["status"], row["productionStage"])
        assert (holder.mobile, holder.region_code) == (row["mobile"], row["insuranceRegionCode"])
        balance = await cards.balance(owned.card.card_id, holder.holder_id)
        assert balance is not None
        assert [figure.balance_fen for figure in balance.figures] == [
            row[f"{name}BalanceFen"] for name in ("medical", "pension", "housingFund")
        ]


async def test_the_same_rows_again_change_nothing(place: tuple[Database, Raw], take: Import) -> None:
    rows = people(1500, 1200)
    await take(rows)
    before = everything(place[1])
    counts, complaints = await take(rows[::-1])
    assert (counts, complaints) == (Counts(cards_known=1500), [])
    assert everything(place[1]) == before


async def test_a_card_that_was_activated_here_stays_activated(place: tuple[Database, Raw], take: Import, vault: Vault) -> None:
    row = next(row for row in people(100) if row["status"] == "sealed" and row["productionStage"] == "delivered")
    await take([row])
    cards = MongoCardStore(place[0], vault)
    owned = await cards.by_number(str(row["regionCode"]), str(row["cardNumber"]))
    assert owned is not None
    done = Activation(ActivationId(new_id("act")), datetime.now(UTC), "app", owned.card.holder_id, b"request")
    assert await activate(cards, owned.card, done, "en")
    before = everything(place[1])
    counts, _ = await take([row, {**row, "status": 0, "medicalBalanceFen": 1, "holderName": "李假远", "mobile": "15400000001"}])
    assert counts == Counts(cards_known=2)
    assert everything(place[1]) == before
    again = await cards.by_number(str(row["regionCode"]), str(row["cardNumber"]))
    assert again is not None
    assert again.card.stored_status is Status.ACTIVE


@pytest.mark.parametrize("apart", [0, 999, 1500, 5000])
async def test_of_two_who_want_one_card_the_first_in_the_file_gets_it(
    place: tuple[Database, Raw], take: Import, vault: Vault, apart: int
) -> None:
    first, other, *rest = people(apart + 2)
    wanted = {name: first[name] for name in ("regionCode", "cardNumber", "identificationCode", "bankCode", "generation")}
    counts, complaints = await take([first, *rest, {**other, **wanted}])
    assert complaints == [{"line": apart + 2, "field": "cardNumber", "reason": "cardNumberTaken"}]
    assert (counts.cards_added, counts.rejected) == (apart + 1, 1)
    owned = await MongoCardStore(place[0], vault).by_number(str(first["regionCode"]), str(first["cardNumber"]))
    assert owned is not None
    assert owned.id_number == first["idNumber"]


async def test_a_card_of_somebody_else_is_refused_and_left_alone(place: tuple[Database, Raw], take: Import) -> None:
    first, other = people(2)
    await take([first])
    before = [*place[1]["cards"].find()]
    wanted = {name: first[name] for name in ("regionCode", "cardNumber", "identificationCode", "bankCode", "generation")}
    counts, complaints = await take([{**other, **wanted}, first])
    assert complaints == [{"line": 1, "field": "cardNumber", "reason": "cardNumberTaken"}]
    assert (counts.cards_added, counts.cards_known, counts.rejected) == (0, 1, 1)
    assert [*place[1]["cards"].find()] == before


@pytest.mark.parametrize("apart", [0, 2500])
async def test_a_person_whose_rows_name_two_regions_is_one_person(
    place: tuple[Database, Raw], take: Import, apart: int
) -> None:
    first, *rest = people(apart + 1)
    second = {**active("2"), **{name: first[name] for name in ("idNumber", "holderName", "mobile")}}
    second["insuranceRegionCode"] = "990100" if first["insuranceRegionCode"] != "990100" else "990200"
    counts, complaints = await take([first, *rest, second])
    assert (counts, complaints) == (Counts(people_added=apart + 1, cards_added=apart + 2), [])
    raw = place[1]
    owners = raw["cards"].aggregate([{"$group": {"_id": "$holderId", "cards": {"$sum": 1}}}, {"$match": {"cards": 2}}])
    (both,) = [owner["_id"] for owner in owners]
    regions = [person["regionCode"] for person in raw["holders"].find({"_id": both})]
    assert regions == [first["insuranceRegionCode"]]


async def test_a_person_who_is_here_under_another_id_keeps_it(place: tuple[Database, Raw], take: Import, vault: Vault) -> None:
    row = active()
    known = Holder(HolderId(new_id("hld")), "李假远", str(row["idNumber"]), "15400000001", "990100", None, None)
    await MongoHolderStore(place[0], vault).put(known)
    counts, complaints = await take([row])
    assert (counts, complaints) == (Counts(cards_added=1), [])
    owned = await MongoCardStore(place[0], vault).by_number(str(row["regionCode"]), str(row["cardNumber"]))
    assert owned is not None
    assert owned.card.activation is not None
    assert (owned.card.holder_id, owned.card.activation.by) == (known.holder_id, known.holder_id)
    (card,) = place[1]["cards"].find()
    assert [entry["by"] for entry in card["history"]] == [known.holder_id]
    assert await MongoHolderStore(place[0], vault).holder(known.holder_id) == known


async def test_a_card_that_is_here_under_another_id_is_known_by_number_and_region(
    place: tuple[Database, Raw], take: Import, vault: Vault
) -> None:
    first, other, elsewhere = people(3)
    await take([first, other])
    cards = MongoCardStore(place[0], vault)
    owned = await cards.by_number(str(first["regionCode"]), str(first["cardNumber"]))
    assert owned is not None
    place[1]["cards"].delete_one({"_id": owned.card.card_id})
    await cards.put(replace(owned.card, card_id=CardId(new_id("card"))), owned.id_number, (), ())
    before = everything(place[1])
    wanted = {name: first[name] for name in ("regionCode", "cardNumber", "identificationCode", "bankCode", "generation")}
    counts, complaints = await take([first, {**other, **wanted}])
    assert complaints == [{"line": 2, "field": "cardNumber", "reason": "cardNumberTaken"}]
    assert (counts.cards_known, counts.rejected) == (1, 1)
    assert everything(place[1]) == before
    # The same number in another region is another card.
    region = next(code for code in ("990100", "990500") if code != first["regionCode"])
    if REGIONS.get(region).policy.card_number == REGIONS.get(str(first["regionCode"])).policy.card_number:
        same = {**elsewhere, "cardNumber": first["cardNumber"], "regionCode": region, "bankCode": "B901", "generation": 3}
        counts, complaints = await take([{**same, "identificationCode": region + str(first["identificationCode"])[6:]}])
        assert (counts.cards_added, complaints) == (1, [])


async def test_a_row_that_stands_there_twice_is_one_card(take: Import) -> None:
    rows = people(1200)
    counts, complaints = await take([*rows, *rows[:300], rows[0], rows[0]])
    assert (counts, complaints) == (Counts(people_added=1200, cards_added=1200, cards_known=302), [])


@pytest.mark.parametrize("collection", [b"cards", b"holders"])
async def test_a_write_whose_answer_was_lost_is_written_again_and_once(
    config: Config, place: tuple[Database, Raw], desk: Desk, tmp_path: Path, collection: bytes
) -> None:
    rows = people(3000)
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    there = urlsplit(config.mongodb_uri.get_secret_value())
    assert there.hostname
    assert there.port
    async with Wire(there.hostname, there.port) as wire:
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with Database(uri, place[1].name, deadline_seconds=5, pool=4) as database:
            await database.ping()
            # The driver tries once more by itself; what is lost is the answer to its first try.
            wire.lose_answer_to(b"insert\x00" + (len(collection) + 1).to_bytes(4, "little") + collection)
            progress = await go(database, desk, path, tmp_path / "rejected")
            assert wire.lost == 1
    assert progress.done
    assert progress.counts.rejected == 0
    assert progress.counts.cards_added + progress.counts.cards_known == 3000
    assert (place[1]["cards"].count_documents({}), place[1]["holders"].count_documents({})) == (3000, 3000)


async def test_a_database_that_goes_away_for_a_while_is_waited_for(
    config: Config, place: tuple[Database, Raw], desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in people(8000)), encoding="utf-8")
    there = urlsplit(config.mongodb_uri.get_secret_value())
    assert there.hostname
    assert there.port
    async with Wire(there.hostname, there.port) as wire:
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with Database(uri, place[1].name, deadline_seconds=1, pool=4) as database:
            work = asyncio.get_running_loop().create_task(go(database, desk, path, tmp_path / "rejected"))
            while not place[1]["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.01)
            wire.cut()
            await asyncio.sleep(3)
            assert not work.done()
            wire.mend()
            progress = await work
    assert progress.done
    assert progress.counts.rows == 8000
    assert (place[1]["cards"].count_documents({}), place[1]["holders"].count_documents({})) == (8000, 8000)


async def test_what_the_database_does_not_take_is_told_by_a_code_alone(place: tuple[Database, Raw]) -> None:
    row = PreparedRow(
        1, b"p", HolderId(new_id("hld")), b"", CardId("card_x"), bson.encode({"_id": "card_x", "name": "196533199111121376"})
    )
    with pytest.raises(StorageError, match="code 121") as refused:
        await MongoRunStore(place[0]).add_cards([row])
    assert "1965" not in str(refused.value)


# --- The lock ---

PROGRESS: Final = Progress(Place(5, 1, "d"), Counts(1, 2, 3, 4), 6)


async def test_one_process_at_a_time_has_an_import_and_the_next_goes_on_where_it_was(place: tuple[Database, Raw]) -> None:
    store = MongoRunStore(place[0])
    claimed = await store.claim("run", "one", 60)
    assert claimed is not None
    assert claimed.progress is None
    assert await store.claim("run", "two", 60) is None
    other = await store.claim("other run", "two", 60)
    assert other is not None
    assert await store.save("run", "one", PROGRESS, 60)
    await store.release("run", "two")
    assert await store.claim("run", "two", 60) is None
    await store.release("run", "one")
    claimed = await store.claim("run", "two", 60)
    assert claimed is not None
    assert claimed.progress == PROGRESS


async def test_a_lock_that_is_not_kept_ends_and_whoever_lost_it_is_told(place: tuple[Database, Raw]) -> None:
    store = MongoRunStore(place[0])
    assert await store.claim("run", "one", 0.2)
    assert await store.keep("run", "one", 0.2)
    await asyncio.sleep(0.3)
    assert await store.claim("run", "two", 60)
    assert not await store.keep("run", "one", 60)
    assert not await store.save("run", "one", PROGRESS, 60)
    claimed = await store.claim("run", "three", 60)
    assert claimed is None


async def test_an_import_that_lost_its_lock_ends_and_says_why(place: tuple[Database, Raw], desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in people(20_000)), encoding="utf-8")
    work = asyncio.get_running_loop().create_task(go(place[0], desk, path, tmp_path / "rejected"))
    while not place[1]["imports"].find_one({"offset": {"$gt": 0}}):
        await asyncio.sleep(0.01)
    place[1]["imports"].update_one({"_id": "run"}, {"$set": {"owner": "somebody else"}})
    with pytest.raises(RunError, match="another process has gone on"):
        await work
    assert [run["owner"] for run in place[1]["imports"].find()] == ["somebody else"]


async def test_a_database_that_is_away_at_the_start_is_told_at_once(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text(json.dumps(people(1)[0]))
    async with Database("mongodb://127.0.0.1:9/?directConnection=true", "none", deadline_seconds=0.5, pool=2) as nowhere:
        with pytest.raises(Refusal, match="unavailable"):
            await go(nowhere, desk, path, tmp_path / "rejected")
