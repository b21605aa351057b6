"""Putting one import together: files, rules, worker processes and the database.

True here: an import writes into a database of its own environment and keyring only, and into one that this version has
migrated. Never here: a rule about rows (imports.py), or the order in which they are written (import_runs.py).
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.imports import HeaderError, read_header
from service import regions
from service.chosen_policy import load_policy
from service.clock import Clock
from service.config import Config
from service.import_files import FileError, Format, RejectedFile, SourceFile
from service.import_runs import ImportRun, Progress
from service.import_workers import WorkerPlan, workers
from service.mongo.cards import MongoCardStore
from service.mongo.client import ConfigurationFault, Database
from service.mongo.consents import MongoConsentStore
from service.mongo.contacts import MongoContactStore
from service.mongo.dependants import MongoDependantStore
from service.mongo.holders import MongoHolderStore
from service.mongo.imports import MongoRunStore
from service.mongo.insurance import MongoRelationStore
from service.mongo.keyring import holds_the_keyring_of
from service.mongo.migrations import pending
from service.mongo.operators import MongoOperatorStore
from service.mongo.sandbox import MongoSandboxStore
from service.passwords import Passwords
from service.regions import Regions
from service.sandbox.personas import CastError
from service.sandbox.seeding import NotASandboxError, Seeding
from service.starting import StartError, load_keys
from service.vault import Vault

_FORMATS: Final[dict[str, Format]] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
# A thousand documents on a disk that is busy take longer than a request may.
_DEADLINE_SECONDS: Final = 30.0
_POOL: Final = 8
# What glibc can be told, by its numbers: from which size a buffer is mapped by itself, and how many heaps threads have.
_ALLOCATOR: Final = ((-3, 128 * 1024), (-8, 2))


@dataclass(frozen=True, slots=True)
class Order:
    """What to import, and how. `rejected` is where the rows go that were not taken."""

    path: Path
    rejected: Path
    format: Format
    workers: int
    start_over: bool


def format_of(path: Path) -> Format | None:
    """The format that a file's name tells, if it does."""
    return _FORMATS.get(path.suffix.lower())


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def import_file(
    config: Config, order: Order, *, tell: Callable[[Progress, int], None], say: Callable[[str], None]
) -> Progress:
    """Import a file, until it is done or the process is told to stop; how far it came.

    `tell` hears how far it is, and of how many bytes. Raises StartError, FileError, RunError, KeyringError, MigrationError,
    StorageError, and Refusal when the database does not answer for long.
    """
    if order.rejected.exists() and order.path.exists() and order.rejected.samefile(order.path):
        raise StartError("the rejected rows need a file of their own")
    _keep_memory_flat()
    keys = load_keys(config)
    vault = Vault(lambda: keys.ring)
    with ExitStack() as stack:
        source = stack.enter_context(SourceFile(order.path))
        columns = _columns(source) if order.format == "csv" else None
        rejected = stack.enter_context(RejectedFile(order.rejected))
        passwords = Passwords(vault)
        stack.callback(passwords.close)
        async with _connect(config) as database:
            served, _ = load_policy(config)
            if await pending(database):
                raise StartError("the database lacks migrations: run `python -m service migrate` first")
            if config.sandbox:
                await _people(database, served, passwords, vault)
            elif not await holds_the_keyring_of(database, vault):
                raise StartError("another keyring sealed the data of this database")
            plan = WorkerPlan(config.keyring_path, config.regions_dir or regions.SHIPPED, config.sandbox, columns)
            run = ImportRun(
                run=vault.mac("import", source.identity, order.format).hex(),
                source=source,
                rejected=rejected,
                store=MongoRunStore(database),
                prepare=stack.enter_context(workers(plan, order.workers)),
                ahead=order.workers + 2,
                tell=lambda progress: tell(progress, source.size),
                say=say,
            )
            loop = asyncio.get_running_loop()
            for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(name, run.stop)
            return await run.go(start_over=order.start_over, skip_header=_header_skipper(columns))


async def _people(database: Database, served: Regions, passwords: Passwords, vault: Vault) -> None:
    """Put a sandbox's people there first: one that is seeded later would begin by deleting everybody who is no persona."""
    try:
        seeding = Seeding(
            store=MongoSandboxStore(database, vault),
            cards=MongoCardStore(database, vault),
            holders=MongoHolderStore(database, vault),
            dependants=MongoDependantStore(database, vault),
            operators=MongoOperatorStore(database, vault),
            relations=MongoRelationStore(database),
            consents=MongoConsentStore(database),
            contacts=MongoContactStore(database, vault),
            regions=served,
            passwords=passwords,
            vault=vault,
            clock=Clock(),
        )
        await seeding.seed_if_empty()
    except (CastError, NotASandboxError) as error:
        raise StartError(str(error)) from None


def _keep_memory_flat() -> None:
    """Have buffers of whole batches returned to the system at once, where the C library can be told (glibc).

    Left alone it learns to keep them, in a heap for each thread and among small things that come and go, and the process
    grows for as long as it runs, by half in 400,000 rows.
    """
    with suppress(AttributeError, OSError):
        for setting, value in _ALLOCATOR:
            ctypes.CDLL(None).mallopt(setting, value)


def _connect(config: Config) -> Database:
    try:
        return Database(
            config.mongodb_uri.get_secret_value(), config.mongodb_database, deadline_seconds=_DEADLINE_SECONDS, pool=_POOL
        )
    except ConfigurationFault as fault:
        raise StartError(f"YIKA_MONGODB_URI cannot be used ({fault})") from None


def _columns(source: SourceFile) -> tuple[str, ...]:
    source.begin()
    try:
        return read_header(source.line() or b"")
    except HeaderError as error:
        raise FileError(f"{source.path}: {error}") from None


def _header_skipper(columns: tuple[str, ...] | None) -> Callable[[SourceFile], None]:
    return _pass_by if columns is None else _skip_line


def _pass_by(source: SourceFile) -> None:
    """NDJSON begins with its first row."""
    del source


def _skip_line(source: SourceFile) -> None:
    """CSV begins with its header."""
    source.line()
