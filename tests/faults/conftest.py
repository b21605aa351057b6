"""What tests with several processes share."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from faults.post_office import Movable, Post, Provider, Raw
from faults.workers import Worker, environment, worker
from pymongo import MongoClient

from service.config import Config
from service.keyring import new_keyring
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
