"""A database that no application works on, and a look at what it really holds."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database as RawDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from service.cards import Activation, Card, Happened, Status
from service.config import Config
from service.keyring import Keyring, new_keyring
from service.locale import Locale
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.vault import Vault

Raw = RawDatabase[dict[str, Any]]


class Commands(CommandListener):
    """Hears what the driver sends: each command's name and the command."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, Any]]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.sent]

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


def connection(config: Config, name: str) -> Database:
    """A connection of its own, as a process has one."""
    return Database(config.mongodb_uri.get_secret_value(), name, deadline_seconds=10, pool=32)


@pytest.fixture(scope="session")
def ring() -> Keyring:
    return new_keyring("sandbox")


@pytest.fixture(scope="session")
def vault(ring: Keyring) -> Vault:
    return Vault(lambda: ring)


@pytest.fixture(scope="session")
def client(config: Config) -> Iterator[MongoClient[dict[str, Any]]]:
    """The driver itself: sees documents as they lie there."""
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value(), tz_aware=True) as made:
        yield made


@pytest.fixture(scope="session")
async def own(config: Config) -> AsyncIterator[Database]:
    """A migrated database for stores alone."""
    async with connection(config, f"{config.mongodb_database}_stores") as made:
        await migrate(made, print)
        yield made
        await made.drop()


@pytest.fixture(scope="session")
async def second(config: Config, own: Database) -> AsyncIterator[Database]:
    """The same database through a connection of its own, as another process has it."""
    del own
    async with connection(config, f"{config.mongodb_database}_stores") as made:
        yield made


@pytest.fixture
def raw(client: MongoClient[dict[str, Any]], config: Config, own: Database) -> Raw:
    """What lies in the stores' database."""
    del own
    return client[f"{config.mongodb_database}_stores"]


async def activate(store: MongoCardStore, card: Card, activation: Activation, locale: Locale = "en") -> Card | None:
    """The write that an activation is; every other change of a card is the same with other fields."""
    after = replace(card, stored_status=Status.ACTIVE, activation=activation)
    return await store.change(card, after, happening(activation, card, locale))


def happening(activation: Activation, card: Card, locale: Locale) -> Happened:
    """What an activation is in the card's history."""
    return Happened(
        name="activated",
        at=activation.at,
        channel=activation.channel,
        by=activation.by,
        reason=None,
        request=activation.request,
        tell=activation.guardian or card.holder_id,
        locale=locale,
        guardian=activation.guardian,
    )


Empty = Callable[[], Awaitable[tuple[Database, Raw]]]


@pytest.fixture
async def empty(config: Config, client: MongoClient[dict[str, Any]]) -> AsyncIterator[Empty]:
    """Makes a database that holds nothing yet."""
    async with AsyncExitStack() as stack:

        async def make() -> tuple[Database, Raw]:
            name = f"{config.mongodb_database}_{secrets.token_hex(4)}"
            made = await stack.enter_async_context(connection(config, name))
            stack.push_async_callback(made.drop)
            return made, client[name]

        yield make
