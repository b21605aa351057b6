import asyncio
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import OperationFailure, WriteError
from storage.conftest import Empty, Raw, activate, connection, happening
from typer.testing import CliRunner

from service.__main__ import command
from service.cards import Activation, Pin, PinState, Status
from service.config import Config
from service.deliveries import QUEUES
from service.errors import Refusal
from service.holders import Access
from service.ids import ActivationId, new_id
from service.keyring import new_keyring
from service.lockouts import STAFF_SIGN_IN
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.dependants import MongoDependantStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.lockouts import MongoLockoutStore
from service.mongo.migrations import STEPS, MigrationError, migrate, pending
from service.mongo.notifications import MongoMessageStore
from service.mongo.operators import MongoOperatorStore
from service.mongo.sessions import MongoSessionStore
from service.mongo.undelivered import MongoUndeliveredStore
from service.mongo.validators import CARD_SCHEMA
from service.notifications import Message
from service.operators import Credentials
from service.readiness import Readiness
from service.regions import SHIPPED, Regions
from service.sandbox.personas import cast, people, staff
from service.sandbox.records import card_records, dependant_records, holder_record
from service.undelivered import STUCK
from service.vault import Vault

REGIONS = Regions.load_directory(SHIPPED)
# The real time, to the second: the server sweeps away what has expired by its own clock.
NOW = datetime.now(UTC).replace(microsecond=0)


def _numbers(raw: Raw) -> list[int]:
    return sorted(document["_id"] for document in raw.migrations.find({"_id": {"$type": "int"}}))


async def test_a_fresh_database_gets_every_step_and_then_nothing_is_pending(empty: Empty) -> None:
    database, raw = await empty()
    assert [step.number for step in await pending(database)] == [step.number for step in STEPS]
    said: list[str] = []
    assert await migrate(database, said.append) == len(STEPS)
    assert [line.split(":")[0] for line in said] == ["migrated"] * len(STEPS)
    assert await pending(database) == []
    assert _numbers(raw) == [step.number for step in STEPS]


async def test_a_second_run_does_nothing(empty: Empty) -> None:
    database, raw = await empty()
    await migrate(database, print)
    before = list(raw.migrations.find())
    said: list[str] = []
    assert await migrate(database, said.append) == 0
    assert said == []
    assert list(raw.migrations.find()) == before


async def test_a_step_that_was_done_before_harms_nothing_when_it_is_done_again(empty: Empty) -> None:
    database, raw = await empty()
    await migrate(database, print)
    before = {name: raw[name].index_information() for name in raw.list_collection_names()}
    for step in STEPS:
        await step.apply(database)
    assert {name: raw[name].index_information() for name in raw.list_collection_names()} == before


async def test_of_two_that_migrate_at_once_one_does_each_step(empty: Empty, config: Config) -> None:
    database, raw = await empty()
    said: list[str] = []
    async with connection(config, raw.name) as other:
        steps = await asyncio.gather(migrate(database, said.append), migrate(other, said.append))
    assert sorted(steps) == [0, len(STEPS)]
    assert len(said) == len(set(said)) == len(STEPS)
    assert _numbers(raw) == [step.number for step in STEPS]
    assert raw.migrations.find_one({"_id": "lock"}) is None


async def test_the_lock_of_a_process_that_died_is_taken_over_when_its_lease_ran_out(empty: Empty) -> None:
    database, raw = await empty()
    raw.migrations.insert_one({"_id": "lock", "owner": "mig_dead", "until": datetime.now(UTC) - timedelta(milliseconds=1)})
    assert await migrate(database, print) == len(STEPS)
    assert raw.migrations.find_one({"_id": "lock"}) is None


async def test_a_lock_that_is_held_is_waited_for(empty: Empty) -> None:
    database, raw = await empty()
    raw.migrations.insert_one({"_id": "lock", "owner": "mig_alive", "until": datetime.now(UTC) + timedelta(hours=1)})
    migrating = asyncio.create_task(migrate(database, print))
    await asyncio.sleep(0.7)
    assert not migrating.done()
    assert _numbers(raw) == []
    raw.migrations.delete_one({"_id": "lock"})
    assert await migrating == len(STEPS)


async def test_somebody_elses_lock_is_never_given_back(empty: Empty) -> None:
    database, raw = await empty()

    def lose(_: str) -> None:
        raw.migrations.update_one({"_id": "lock"}, {"$set": {"owner": "mig_other"}})

    await migrate(database, lose)
    held = raw.migrations.find_one({"_id": "lock"})
    assert held is not None
    assert held["owner"] == "mig_other"


async def test_a_database_of_a_newer_version_is_refused(empty: Empty) -> None:
    database, raw = await empty()
    await migrate(database, print)
    raw.migrations.insert_one({"_id": STEPS[-1].number + 1, "name": "from the future", "at": datetime.now(UTC)})
    for ask in (pending(database), migrate(database, print)):
        with pytest.raises(MigrationError, match="newer"):
            await ask


async def test_a_process_is_not_ready_on_a_database_of_another_version(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()

    async def refusal() -> tuple[str, Mapping[str, object]]:
        with pytest.raises(Refusal) as refused:
            await Readiness(database, vault, sandbox=False)()
        return refused.value.code, refused.value.facts

    assert await refusal() == ("unavailable", {"reason": "migration"})
    await migrate(database, print)
    raw.migrations.insert_one({"_id": 999, "name": "from the future"})
    assert await refusal() == ("unavailable", {"reason": "migration"})
    raw.migrations.delete_one({"_id": 999})
    await Readiness(database, vault, sandbox=False)()


async def test_a_process_is_not_ready_on_what_another_keyring_has_sealed(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()
    await migrate(database, print)
    await Readiness(database, vault, sandbox=False)()
    other = new_keyring("production")
    stranger = Vault(lambda: other)
    with pytest.raises(Refusal) as refused:
        await Readiness(database, stranger, sandbox=False)()
    assert refused.value.facts == {"reason": "keyring"}
    before = list(raw.migrations.find())
    await Readiness(database, vault, sandbox=False)()
    assert list(raw.migrations.find()) == before


async def _command(config: Config, database: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and output of `python -m service …`, run in a thread: it brings a loop of its own."""
    own = {
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": database,
    }
    done = await asyncio.to_thread(CliRunner().invoke, command, arguments, env=own | environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


async def test_the_command_line_says_what_is_pending_and_applies_it(config: Config, empty: Empty) -> None:
    _, raw = await empty()
    listed = [f"{step.number} {step.name}" for step in STEPS]
    assert await _command(config, raw.name, "migrate", "--check") == (1, "".join(f"pending: {step}\n" for step in listed))
    assert _numbers(raw) == []
    done = "".join(f"migrated: {step}\n" for step in listed) + f"{len(STEPS)} steps applied\n"
    assert await _command(config, raw.name, "migrate") == (0, done)
    assert await _command(config, raw.name, "migrate", "--check") == (0, "nothing is pending\n")
    assert await _command(config, raw.name, "migrate") == (0, "nothing to do\n")
    raw.migrations.insert_one({"_id": 999, "name": "from the future", "at": datetime.now(UTC)})
    for arguments in (("migrate", "--check"), ("migrate",)):
        status, said = await _command(config, raw.name, *arguments)
        assert status == 1
        assert "newer version" in said


async def test_a_database_that_is_away_is_told_in_words(config: Config) -> None:
    away = {"YIKA_MONGODB_URI": "mongodb://127.0.0.1:1/?directConnection=true", "YIKA_REQUEST_SECONDS": "0.5"}
    for arguments in (("migrate",), ("migrate", "--check")):
        assert await _command(config, "away", *arguments, **away) == (1, "yika: the database does not answer (unavailable)\n")


# What the database itself refuses.


async def _whole(database: Database, raw: Raw, vault: Vault) -> dict[str, Any]:
    """A card as the product writes it, activated, with everything that a card may hold."""
    store = MongoCardStore(database, vault)
    person = next(person for person in people(cast(REGIONS)) if person.key == "sealed")
    (record,) = card_records(person, REGIONS, NOW)
    await store.put(record.card, record.id_number, record.figures, record.history)
    guardian = record.card.holder_id
    activation = Activation(ActivationId(new_id("act")), NOW, "app", guardian, b"m" * 32, guardian)
    pin = Pin(PinState.SET, 0, "hash")
    after = replace(record.card, stored_status=Status.ACTIVE, activation=activation, pin=pin, lock_reason="fraud")
    what = replace(happening(activation, record.card, "en"), approved_by="op_second")
    assert await store.change(record.card, after, what) is not None
    document = raw.cards.find_one({"_id": record.card.card_id})
    assert document is not None
    return document


def _members(schema: dict[str, Any], *path: str | int) -> Iterator[tuple[tuple[str | int, ...], bool]]:
    """The way to every named member of the schema in a document that has one of each, and whether it must be there."""
    for name, member in schema.get("properties", {}).items():
        yield (*path, name), name in schema["required"]
        for variant in (member, *member.get("oneOf", ())):
            yield from _members(variant, *path, name)
        yield from _members(member.get("items", {}), *path, name, 0)


MEMBERS = list(_members(CARD_SCHEMA))
WRONG: dict[str, Callable[[Any], Any]] = {
    "a number in plain": lambda value: "A1234567X" if isinstance(value, bytes) else None,
    "a time as text": lambda value: value.isoformat() if isinstance(value, datetime) else None,
    "a word that is none": lambda value: "unheardOf" if isinstance(value, str) and value in set(Status) else None,
    "a count as text": lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else None,
    "a fraction": lambda value: value + 0.5 if isinstance(value, int) and not isinstance(value, bool) else None,
    "a yes as a number": lambda value: 1 if isinstance(value, bool) else None,
    "an object for a list": lambda value: {} if isinstance(value, list) else None,
    "a list for a text": lambda value: [value] if isinstance(value, str) else None,
}


def _at(document: dict[str, Any], path: tuple[str | int, ...]) -> Any:
    there: Any = document
    for step in path:
        there = there[step]
    return there


def _spoilt(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document with one thing wrong, in every way there is."""

    def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        other = copy.deepcopy(document)
        change(other)
        return other

    for path, required in MEMBERS:
        *parents, last = path
        where = ".".join(map(str, path))
        if required:
            yield f"without {where}", changed(lambda d, p=tuple(parents), n=last: _at(d, p).pop(n))  # type: ignore[misc]  # what a lambda binds has no type
        value = _at(document, path)
        for fault, wrong in WRONG.items():
            if (instead := wrong(value)) is not None:
                yield (
                    f"{where}: {fault}",
                    changed(lambda d, p=tuple(parents), n=last, v=instead: _at(d, p).__setitem__(n, v)),  # type: ignore[misc]  # what a lambda binds has no type
                )
    for path in ((), ("bank",), ("pin",), ("activation",), ("accounts", 0), ("history", 0), ("outbox", 0)):
        yield f"{path}: an unknown field", changed(lambda d, p=path: _at(d, p).__setitem__("idNumberPlain", "x"))  # type: ignore[misc]  # what a lambda binds has no type
    for path, value in (
        (("holderId",), "张伟"),
        (("expiresOn",), "2035-8-31"),
        (("regionCode",), "9901"),
        (("version",), -1),
        (("pin", "wrongTries"), -1),
        (("generation",), 0),
        (("accounts",), [document["accounts"][0]] * 9),
        (("temporaryLossUntil",), "2026-11-22"),
    ):
        *parents, last = path
        yield f"{path}: {value!r}", changed(lambda d, p=tuple(parents), n=last, v=value: _at(d, p).__setitem__(n, v))  # type: ignore[misc]  # what a lambda binds has no type


async def test_the_database_refuses_every_card_that_is_not_whole(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()
    await migrate(database, print)
    good = await _whole(database, raw, vault)
    assert all(_at(good, path) is not None for path, _ in MEMBERS if path[-1] not in {"temporaryLossUntil", "reason"})
    bystander = copy.deepcopy(good) | {"_id": new_id("card")}
    # So that only its shape speaks against a card.
    raw.cards.drop_indexes()
    raw.cards.insert_one(bystander)
    spoilt = list(_spoilt(good))
    assert len(spoilt) > 100
    accepted = [f"update, {fault}" for fault, card in spoilt if "_id" not in fault and _takes(raw, card, into=good["_id"])]
    assert raw.cards.find_one_and_delete({"_id": good["_id"]}) == good
    accepted += [f"insert, {fault}" for fault, card in spoilt if _takes(raw, card, into=None)]
    assert accepted == []
    assert list(raw.cards.find()) == [bystander]
    assert _takes(raw, good, into=None)


def _takes(raw: Raw, card: dict[str, Any], *, into: str | None) -> bool:
    """Whether the database takes the card, new or in the place of another."""
    try:
        if into is None:
            raw.cards.insert_one(dict(card))
        else:
            raw.cards.replace_one({"_id": into}, card)
    except WriteError as error:
        # 53: an id that no collection takes.
        if error.code not in {121, 53}:
            raise
        return False
    return True


async def test_the_database_takes_every_card_that_the_product_writes(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()
    await migrate(database, print)
    options = raw.cards.options()
    assert options["validator"] == {"$jsonSchema": CARD_SCHEMA}
    assert options.get("validationLevel", "strict") == "strict"
    assert options.get("validationAction", "error") == "error"
    store = MongoCardStore(database, vault)
    activated = 0
    for person in people(cast(REGIONS)):
        for record in card_records(person, REGIONS, NOW):
            await store.put(record.card, record.id_number, record.figures, record.history)
            activation = Activation(ActivationId(new_id("act")), NOW, "app", record.card.holder_id, b"m" * 32)
            changed = await activate(store, record.card, activation, "zh-CN")
            assert changed is not None
            assert (changed.stored_status, changed.version) == (Status.ACTIVE, record.card.version + 1)
            activated += 1
    await store.carried(await store.uncarried(1000))
    assert activated == raw.cards.count_documents({"status": "active", "outbox": []}) > 20


INDEXES = {
    "cards": {"number": True, "holder": False, "activation": True, "outbox": False, "guardian": False},
    "holders": {"idNumber": True},
    "contacts": {"news": False},
    "dependants": {"guardian": False, "seat": True, "whose": False, "news": False},
    "accesses": {"holder": False, "chained": False, "erasure": False},
    "ledger": {"place": True, "previous": True},
    "insurance": {"holder": False, "news": False},
    "ecards": {"news": False, "whose": False},
    "familiar_devices": {"expiry": False},
    "ecard_codes": {"known": False, "expiry": False, "whose": False},
    "last_known": {"holder": False, "expiry": False},
    "sessions": {"holder": False, "operator": False, "expiry": False, "news": False},
    "operators": {"username": True},
    "lockouts": {"expiry": False},
    "verifications": {"expiry": False, "whose": False},
    "hotline_codes": {"expiry": False},
    "limits": {"expiry": False},
    "idempotency": {"expiry": False, "whose": False},
    "messages": {"expiry": False, "due": False, "queue": False, "to": False, "whose": False},
    "consents": {"holder": False, "news": False},
    "visits": {"whose": False},
    "erasures": {"due": False},
}


async def test_every_index_is_there(empty: Empty) -> None:
    database, raw = await empty()
    await migrate(database, print)
    found = {
        collection: {name: index.get("unique", False) for name, index in raw[collection].index_information().items()}
        for collection in INDEXES
    }
    assert found == {collection: {"_id_": False} | indexes for collection, indexes in INDEXES.items()}
    for collection in ("sessions", "verifications", "hotline_codes", "limits", "lockouts", "idempotency", "messages"):
        expiry = raw[collection].index_information()["expiry"]
        assert (expiry["key"], expiry["expireAfterSeconds"]) == ([("expiresAt", 1)], 3600)


async def _ask_as_operators_do(database: Database, vault: Vault) -> None:
    """Everything that signing in, and every request after it, asks of storage."""
    operators, behind = MongoOperatorStore(database, vault), list(staff(cast(REGIONS)))
    for one in behind:
        await operators.put_institution(one.operator.institution)
        await operators.put(Credentials(one.operator, "hash", one.totp_secret))
    operator = behind[0].operator
    credentials = await operators.credentials(operator.username)
    assert credentials is not None
    assert await operators.operator(operator.operator_id) == operator
    assert await operators.use_step(credentials, 1)
    await MongoSessionStore(database).end_all_of(operator.operator_id, NOW, "operatorDisabled")
    assert await MongoLockoutStore(database).count(b"somebody", STAFF_SIGN_IN, NOW) is None


async def _ask_about_messages(database: Database, messages: MongoMessageStore) -> None:
    for queue in QUEUES:
        claims = await messages.claim(queue, NOW, timedelta(seconds=30), 1)
        assert len(claims) == (queue == "sms")
    await messages.settle("msg_0", 1, "dead", NOW)
    assert not await messages.waiting(NOW, "15400000000")
    assert (await messages.queued(NOW)).dead == 1
    assert len(await MongoUndeliveredStore(database).undelivered(STUCK, 10)) == 1
    assert await MongoUndeliveredStore(database).close("msg_0", NOW)


async def test_no_store_looks_through_a_whole_collection(empty: Empty, vault: Vault) -> None:
    database, raw = await empty()
    await migrate(database, print)
    cards, holders, links = (
        MongoCardStore(database, vault),
        MongoHolderStore(database, vault),
        MongoDependantStore(database, vault),
    )
    messages, sessions, log = MongoMessageStore(database, vault), MongoSessionStore(database), MongoAccessLogStore(database)
    everybody = list(people(cast(REGIONS)))
    for person in everybody:
        await holders.put(holder_record(person, "hash"))
        for record in card_records(person, REGIONS, NOW):
            await cards.put(record.card, record.id_number, record.figures, record.history)
        await log.record(person.holder_id, Access(new_id("acc"), NOW, "reveal", "self", "app", None))
    for number in range(20):
        message = Message(
            f"msg_{number}", "sms", "15400000000", "t", None, "text", None, {}, "en", suppressed=False, attempts=0, fence=0
        )
        await messages.add(message, NOW + timedelta(seconds=number))
    for link in dependant_records(everybody, REGIONS):
        await links.put(link)
    card = next(record.card for record in card_records(everybody[0], REGIONS, NOW))
    try:
        raw.command("profile", 2)
    except OperationFailure:
        pytest.skip("this server keeps no profile of its queries")
    activation = Activation(ActivationId(new_id("act")), NOW, "app", card.holder_id, b"m" * 32)
    assert await activate(cards, card, activation, "en") is not None
    assert await cards.by_number(card.region_code, card.number) is not None
    assert await cards.by_activation(activation.activation_id) is not None
    assert await cards.card(card.card_id, card.holder_id) is not None
    assert await cards.history(card.card_id, card.holder_id)
    assert len(await cards.cards_of(card.holder_id, None, 21)) == 1
    assert await cards.cards_of(card.holder_id, card.card_id, 21) == []
    (waiting,) = await cards.uncarried(32)
    assert await cards.waiting()
    assert (await cards.backlog()).happenings == 1
    await cards.carried([waiting])
    assert await holders.holder_by_number(everybody[0].id_number.number) is not None
    assert await holders.in_household(everybody[0].id_number.number, everybody[0].household_register) is not None
    (link,) = dependant_records(everybody, REGIONS)
    assert await links.dependant(link.dependant_id) == link
    assert await links.links_of(link.guardian_id, None, 21) == [link]
    assert list(await links.seated(link.holder_id)) == [link]
    assert await links.end(link, NOW, b"m" * 32)
    assert await sessions.live_of(card.holder_id, NOW, None, 21) == []
    await _ask_as_operators_do(database, vault)
    assert len(await log.entries(card.holder_id, (NOW + timedelta(seconds=1), "acc_z"), 21)) == 1
    await _ask_about_messages(database, messages)
    raw.command("profile", 0)
    plans = {
        (entry["ns"].rpartition(".")[2], entry["planSummary"], entry.get("docsExamined", 0) - entry.get("nreturned", 0))
        for entry in raw["system.profile"].find({"planSummary": {"$exists": True}, "ns": {"$not": re.compile("profile")}})
    }
    if not plans:
        pytest.skip("this server keeps no profile of its queries")
    assert {(collection, plan.split()[0]) for collection, plan, _ in plans} <= {
        (collection, how) for collection in {*INDEXES, "institutions"} for how in ("IXSCAN", "IDHACK")
    }
    used = {(collection, plan.split()[2].rstrip(":")) for collection, plan, _ in plans if plan.startswith("IXSCAN")}
    used -= {(collection, "_id") for collection in INDEXES}
    assert used == {
        ("cards", "numberIndex"),
        ("cards", "activation.id"),
        ("cards", "holderId"),
        ("cards", "outbox.id"),
        ("holders", "idNumberIndex"),
        ("dependants", "guardianId"),
        ("dependants", "holderId"),
        ("sessions", "holderId"),
        ("sessions", "operatorId"),
        ("operators", "usernameIndex"),
        ("accesses", "holderId"),
        ("messages", "queue"),
        ("messages", "state"),
    }
    # A change looks at the document it changes and gives none.
    assert all(extra <= 1 for _, _, extra in plans)
