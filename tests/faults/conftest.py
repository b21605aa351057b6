"""What tests with several processes share."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.imports import Place, Places
from faults.post_office import Movable, Post, Provider, Raw
from faults.workers import Worker, environment, worker
from pymongo import MongoClient

from service.config import Config
from service.keyring import new_keyring, save_keyring
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.contacts import MongoContactStore
from service.mongo.holders import MongoHolderStore
from service.mongo.migrations import migrate
from service.mongo.notifications import MongoMessageStore
from service.vault import Vault


@pytest.fixture(scope="module")
async def survivor(config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A process that lives on."""
    del database
    async with worker(environment(config), tmp_path_factory.mktemp("logs") / "survivor.log") as lives:
        yield lives


@pytest.fixture(scope="module")
def post_raw(config: Config) -> Iterator[Raw]:
    """What lies in the database of the post office."""
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[f"{config.mongodb_database}_relay"]


@pytest.fixture(scope="module")
async def post_database(config: Config, post_raw: Raw) -> AsyncIterator[Database]:
    """A migrated database that no application works on."""
    async with Database(config.mongodb_uri.get_secret_value(), post_raw.name, deadline_seconds=10, pool=16) as database:
        await migrate(database, print)
        yield database
        await database.drop()


@pytest.fixture
async def post(post_database: Database, post_raw: Raw) -> Post:
    """A relay and all it stands on, with nothing to do."""
    for name in ("cards", "holders", "messages", "contacts"):
        post_raw[name].delete_many({})
    ring = new_keyring("sandbox")
    vault = Vault(lambda: ring)
    return Post(
        cards=MongoCardStore(post_database, vault),
        holders=MongoHolderStore(post_database, vault),
        messages=MongoMessageStore(post_database, vault),
        contacts=MongoContactStore(post_database, vault),
        clock=Movable(),
        provider=Provider(),
        mail=Provider(),
        raw=post_raw,
    )


@pytest.fixture
def place(config: Config, tmp_path: Path) -> Iterator[Places]:
    """Makes migrated databases that share one keyring."""
    save_keyring(tmp_path / "data" / "keys" / "keyring.json", new_keyring("sandbox"))
    uri = config.mongodb_uri.get_secret_value()
    names: list[str] = []
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:

        def make(environment: str = "sandbox") -> Place:
            name = f"{config.mongodb_database}_{secrets.token_hex(3)}"
            names.append(name)
            own = {key: value for key, value in os.environ.items() if not key.startswith("YIKA_")}
            own |= {
                "YIKA_ENVIRONMENT": environment,
                "YIKA_MONGODB_URI": uri,
                "YIKA_MONGODB_DATABASE": name,
                "YIKA_DATA_DIR": str(tmp_path / "data"),
            }
            made = Place(client[name], own, tmp_path)
            assert environment != "sandbox" or made.run("migrate").returncode == 0
            return made

        yield make
        for name in names:
            client.drop_database(name)
