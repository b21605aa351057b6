"""The ground that a run stands on: one database, one keyring, one folder, and which core is whose.

True here: the database is a real MongoDB on disk, a replica set of one, with the product's own schema and indexes; all of it
is gone when the run is over. Never here: a database that anybody else uses.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pymongo import MongoClient
from pymongo.database import Database as RawDatabase

from bench.machine import WORK, Cores, pinned
from service.keyring import Keyring, new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.embedded import EmbeddedMongo
from service.mongo.migrations import migrate

DATABASE: Final = "yika_bench"
ISSUER: Final = "https://yika.example"
AUDIENCE: Final = "yika"
POOL: Final = 64
_FOLDER: Final = "run-"

Raw = RawDatabase[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Ground:
    """One run's database, keys and places. `mongod`: the process id of the database's server."""

    uri: str
    mongod: int
    folder: Path
    cores: Cores
    ring: Keyring
    raw: Raw

    @property
    def keyring(self) -> Path:
        return self.folder / "keyring.json"

    @property
    def jwks(self) -> Path:
        """The public keys, for the peers."""
        return self.folder / "jwks.json"

    @property
    def peers_uri(self) -> str:
        """The database as the peers are told of it: reads of what a majority holds, as Yika reads."""
        return f"{self.uri}&readConcernLevel=majority"

    @property
    def yika_environment(self) -> dict[str, str]:
        """Yika as it ships, told where it is."""
        return {
            # Production refuses invented regions and people. A sandbox does all that production does, and follows a clock.
            "YIKA_ENVIRONMENT": "sandbox",
            "YIKA_MONGODB_URI": self.uri,
            "YIKA_MONGODB_DATABASE": self.raw.name,
            "YIKA_KEYRING": str(self.keyring),
            "YIKA_ISSUER": ISSUER,
            "YIKA_AUDIENCE": AUDIENCE,
        }

    def log(self, name: str) -> Path:
        """Where a program writes what it says."""
        return self.folder / f"{name}.log"

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The product's own connection."""
        async with Database(self.uri, self.raw.name, deadline_seconds=30, pool=POOL) as database:
            yield database

    async def migrate(self) -> None:
        """Bring the database to what the product expects."""
        async with self.database() as database:
            await migrate(database, lambda _: None)


@contextmanager
def ground(cores: Cores, say: Callable[[str], None], *, on: Collection[int]) -> Iterator[tuple[Ground, str]]:
    """A fresh database on some cores, migrated, with fresh keys; and what its server calls itself. All is gone at the end."""
    WORK.mkdir(exist_ok=True)
    _clear_away_what_killed_runs_left()
    folder = WORK / f"{_FOLDER}{os.getpid()}"
    folder.mkdir()
    try:
        ring = new_keyring("sandbox")
        save_keyring(folder / "keyring.json", ring)
        (folder / "jwks.json").write_bytes(orjson.dumps(ring.jwks()))
        with pinned(on):
            mongo = EmbeddedMongo.start(folder / "mongodb", say=say, server="mongod")
        with mongo, MongoClient[dict[str, Any]](mongo.uri, tz_aware=True) as client:
            made = Ground(mongo.uri, mongo.pid, folder, cores, ring, client[DATABASE])
            asyncio.run(made.migrate())
            yield made, mongo.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_away_what_killed_runs_left() -> None:
    for folder in WORK.glob(f"{_FOLDER}*"):
        if not Path(f"/proc/{folder.name.removeprefix(_FOLDER)}").exists() or folder.name == f"{_FOLDER}{os.getpid()}":
            shutil.rmtree(folder, ignore_errors=True)
