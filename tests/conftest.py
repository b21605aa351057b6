"""What tests stand on: a real MongoDB, the real application on a real port, real tokens."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import pytest
from api.client import Api
from pymongo import MongoClient

from service.config import Config, read_config
from service.keyring import new_keyring, save_keyring
from service.logs import set_up_logs
from service.mongo.client import Database
from service.mongo.embedded import EmbeddedMongo
from service.mongo.migrations import migrate
from service.server import Served, serving

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  a folder of its own in there, for its owner alone
_ROOM: Final = 4 * 2**30
_PREFIX: Final = "yika-tests-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests start and kill processes take turns with the others: those compute, these mostly wait."""
    files = list(dict.fromkeys(item.path for item in items))
    busy = [path for path in files if not {"faults", "embedded"}.isdisjoint(path.parts)]
    idle = [path for path in files if path not in busy]
    turns = {path: turn for turn, path in enumerate(path for pair in zip_longest(busy, idle) for path in pair)}
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The MongoDB of YIKA_MONGODB_URI, else one that lives as long as the run."""
    if given := os.environ.get("YIKA_MONGODB_URI"):
        yield given
        return
    server = os.environ.get("YIKA_EMBEDDED_SERVER", "auto")
    with (
        _folder(tmp_path_factory) as folder,
        EmbeddedMongo.start(folder, say=print, server=server) as mongo,  # type: ignore[arg-type]  # it is checked there
    ):
        yield mongo.uri


@pytest.fixture(autouse=True)
def _beside_others(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run side by side; one that is marked `alone` waits until no other runs, and none begins until it is over."""
    place = tmp_path_factory.getbasetemp().parent
    alone = request.node.get_closest_marker("alone") is not None
    with (place / "gate").open("w") as gate, (place / "room").open("w") as room:
        # Who waits for the room to be empty holds the gate meanwhile, or others would slip in for ever.
        flock(gate, LOCK_EX)
        flock(room, LOCK_EX if alone else LOCK_SH)
        flock(gate, LOCK_UN)
        yield


@contextmanager
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the database of the run lies: in memory where there is room, for every write waits for its journal.

    The same server does the same, and a disk only makes the run four times longer. What kills of processes leave on a disk
    is looked at with databases that lie on one (tests/embedded, tests/faults).
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM:
        yield tmp_path_factory.mktemp("mongodb")
        return
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        # Of a run that was killed.
        if not Path(f"/proc/{left.name.removeprefix(_PREFIX)}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def config(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A sandbox on free ports, with a keyring and a database of its own."""
    data_dir = tmp_path_factory.mktemp("data")
    made = read_config(
        environment="sandbox",
        port=0,
        admin_port=0,
        mongodb_uri=mongodb_uri,
        mongodb_database=f"yika_test_{os.getpid()}",
        data_dir=data_dir,
        log_level="error",
        notice_seconds=0,
        cors_origins=("https://app.example",),
    )
    save_keyring(made.keyring_path, new_keyring("sandbox"))
    return made


@pytest.fixture(scope="session")
async def database(config: Config) -> AsyncIterator[Database]:
    """The database that the application uses, migrated."""
    async with Database(
        config.mongodb_uri.get_secret_value(), config.mongodb_database, deadline_seconds=10, pool=8
    ) as connection:
        await migrate(connection, print)
        yield connection
        await connection.drop()


@pytest.fixture(scope="session")
def on_mongod(mongodb_uri: str) -> bool:
    """Whether this is a real `mongod`, and not the other embedded server."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        return bool(client.admin.command("hello").get("setName") != "secantus")


@pytest.fixture(scope="session")
async def served(config: Config, database: Database) -> AsyncIterator[Served]:
    """The application, listening."""
    del database
    set_up_logs(config.log_level)
    async with serving(config, seed_first=True) as running:
        yield running


@pytest.fixture
async def api(served: Served) -> AsyncIterator[Api]:
    """A client of a sandbox that is as new."""
    async with Api(served.url) as client:
        await client.post("/sandbox/reset", {})
        yield client


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
