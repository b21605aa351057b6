"""The composition root: the only module that sees everything, and where everything is put together once.

True here: what a process starts it also ends, in reverse order; every background task is owned. Never here: a rule.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from handlers.deadlines import Deadlines
from handlers.metrics import Metrics
from handlers.services import Services
from service import pages, regions
from service.activations import Activations
from service.balances import Balances
from service.cards import Cards
from service.clock import Clock
from service.config import Config
from service.errors import Refusal
from service.gateways.absent import AbsentFace, AbsentSms
from service.gateways.face import FaceGateway
from service.gateways.sms import SmsGateway
from service.holders import Holders
from service.idempotency import Idempotency
from service.identity import Identity
from service.keyring import RELOAD_SECONDS, KeyringError, Keys
from service.limits import Limit, Limits, Pace
from service.locale import catalogue
from service.mongo.cards import MongoCardStore
from service.mongo.client import ConfigurationFault, Database
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.idempotency import MongoIdempotencyStore
from service.mongo.identity import MongoVerificationStore
from service.mongo.keyring import holds_the_keyring_of
from service.mongo.limits import MongoLimitStore
from service.mongo.migrations import MigrationError, pending
from service.mongo.notifications import MongoMessageStore
from service.mongo.sandbox import MongoSandboxStore
from service.mongo.sessions import MongoSessionStore
from service.notifications import Notifications
from service.pages import Pages
from service.passwords import Passwords
from service.regions import Regions
from service.relay import Relay
from service.sandbox.gateways import SandboxFace, SandboxSms
from service.sandbox.invention import is_invented_region
from service.sandbox.personas import CastError
from service.sandbox.sandbox import NotASandboxError, Sandbox
from service.sessions import Sessions
from service.strict_toml import FaultyFileError
from service.tokens import Tokens
from service.vault import Vault

_log = structlog.get_logger("app")
_READY_SECONDS: Final = 2.0


class StartError(Exception):
    """The process cannot start; the text says why, for the person who started it."""


class Readiness:
    """Whether this process should get traffic."""

    def __init__(self, database: Database, vault: Vault, *, sandbox: bool) -> None:
        self._database = database
        self._vault = vault
        self._fit = False
        # A sandbox is ready when its people are there; they are put there anew under a new keyring.
        self._sandbox = sandbox
        self.peopled = not sandbox
        self.stopping = False

    async def __call__(self) -> None:
        """Refuses with `unavailable` and the reason: stopping, database, seeding, migration, or another keyring's data."""
        if self.stopping:
            raise _not_ready("stopping")
        try:
            async with asyncio.timeout(_READY_SECONDS):
                reason = await self._unfit()
        except TimeoutError:
            raise _not_ready("database") from None
        if reason:
            raise _not_ready(reason)

    async def _unfit(self) -> str | None:
        if not self.peopled:
            return "seeding"
        if self._fit:
            await self._database.ping()
            return None
        try:
            if await pending(self._database):
                return "migration"
        except MigrationError:
            # A newer version was here: what it wrote may be beyond this one.
            return "migration"
        if not self._sandbox and not await holds_the_keyring_of(self._database, self._vault):
            _log.error("another_keyring")
            return "keyring"
        self._fit = True
        return None


def _not_ready(reason: str) -> Refusal:
    return Refusal("unavailable", {"reason": reason}, retry_after=2)


@dataclass(frozen=True, slots=True)
class Process:
    """Everything a process has, put together. Only a sandbox has a sandbox."""

    services: Services
    readiness: Readiness
    sandbox: Sandbox | None


def load_keys(config: Config) -> Keys:
    """The keyring. Raises StartError when it is missing, unsafe, or of another environment."""
    try:
        keys = Keys(config.keyring_path)
    except KeyringError as error:
        raise StartError(str(error)) from None
    if keys.ring.purpose != config.environment:
        raise StartError(f"the keyring is for {keys.ring.purpose}, this is {config.environment}: secrets are never shared")
    return keys


def _load_policy(config: Config) -> tuple[Regions, Pages]:
    """Regions and pages. Raises StartError for a file that cannot be used, or a region that is not for production."""
    try:
        catalogue()
        served = Regions.load_directory(config.regions_dir or regions.SHIPPED)
        flow = Pages.load(pages.SHIPPED)
    except FaultyFileError as error:
        raise StartError(str(error)) from None
    if config.default_region not in served.by_code:
        raise StartError("YIKA_DEFAULT_REGION: there is no such region")
    if not config.sandbox and any(is_invented_region(region.code) for region in served):
        raise StartError("YIKA_REGIONS_DIR: an invented region is not for production")
    return served, flow


def compose(config: Config, database: Database, passwords: Passwords, keys: Keys, vault: Vault) -> Process:
    """Put one process together. Reads files, touches no network. Raises StartError for a file that cannot be used."""
    served, flow = _load_policy(config)
    clock = Clock()
    tokens = Tokens(lambda: keys.ring, config.issuer, config.audience)
    cards = MongoCardStore(database, vault)
    holders = MongoHolderStore(database, vault)
    limits = Limits(MongoLimitStore(database), vault, clock, address_factor=100 if config.sandbox else 1)
    sessions = Sessions(MongoSessionStore(database), tokens, vault, clock)
    sandbox_store = MongoSandboxStore(database, vault)
    sms: SmsGateway = SandboxSms(sandbox_store, clock) if config.sandbox else AbsentSms()
    face: FaceGateway = SandboxFace(sandbox_store, config.public_url) if config.sandbox else AbsentFace()
    notifications = Notifications(MongoMessageStore(database, vault), sms, clock)
    relay = Relay(cards, notifications, holders)
    queries = Pace(Limit("queries", config.queries_per_minute, timedelta(minutes=1)))
    readiness = Readiness(database, vault, sandbox=config.sandbox)
    sandbox: Sandbox | None = None

    def the_sandbox() -> Sandbox:
        if sandbox is None:
            raise AssertionError("its routes exist in a sandbox only")
        return sandbox

    services = Services(
        config=config,
        clock=clock,
        keys=keys,
        tokens=tokens,
        regions=served,
        pages=flow,
        sessions=sessions,
        identity=Identity(
            store=MongoVerificationStore(database, vault),
            holders=holders,
            sessions=sessions,
            notifications=notifications,
            limits=limits,
            passwords=passwords,
            face=face,
            vault=vault,
            clock=clock,
        ),
        holders=Holders(holders, MongoAccessLogStore(database)),
        cards=Cards(cards),
        balances=Balances(cards),
        activations=Activations(store=cards, holders=holders, regions=served, limits=limits, tokens=tokens, clock=clock),
        idempotency=Idempotency(MongoIdempotencyStore(database, vault), vault, clock),
        queries=queries,
        relay=relay,
        metrics=Metrics(),
        deadlines=Deadlines(config.request_seconds),
        ready=readiness,
        sandbox=the_sandbox,
    )
    if not config.sandbox:
        return Process(services, readiness, None)
    try:
        sandbox = Sandbox(
            store=sandbox_store,
            cards=cards,
            holders=holders,
            regions=served,
            passwords=passwords,
            relay=relay,
            pace=queries,
            vault=vault,
            clock=clock,
        )
    except CastError as error:
        raise StartError(str(error)) from None
    return Process(services, readiness, sandbox)


def _background(process: Process) -> dict[str, Coroutine[Any, Any, None]]:
    """What a process does besides answering; each runs until it is cancelled."""
    works = {"relay": process.services.relay.run(), "keyring": _reload(process.services.keys)}
    if process.sandbox is not None:
        works["sandbox"] = _keep_sandbox(process.sandbox, process.readiness)
    return works


async def _reload(keys: Keys) -> None:
    """Look at the keyring file now and then, off the loop; one that cannot be read changes nothing and is reported."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        try:
            if await asyncio.to_thread(keys.reload):
                _log.info("keyring_reloaded", signing_keys=len(keys.ring.signing_keys))
        except KeyringError:
            _log.error("keyring_unreadable")


async def _keep_sandbox(sandbox: Sandbox, readiness: Readiness) -> None:
    """Put the invented people there as soon as there is a database, then follow the clock that others move."""
    while True:
        try:
            await sandbox.seed_if_empty()
        except Refusal:
            await asyncio.sleep(1)
        except NotASandboxError:
            # Never ready, and every reset is refused.
            _log.error("not_a_sandbox")
            return
        else:
            break
    readiness.peopled = True
    await sandbox.follow_clock()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Process]:
    """A process that is put together and whose background tasks run; leaving it ends them and closes everything."""
    keys = load_keys(config)
    vault = Vault(lambda: keys.ring)
    async with AsyncExitStack() as stack:
        passwords = Passwords(vault)
        stack.callback(passwords.close)
        database = await stack.enter_async_context(connect(config))
        process = compose(config, database, passwords, keys, vault)
        works = [asyncio.get_running_loop().create_task(work, name=name) for name, work in _background(process).items()]
        for work in works:
            work.add_done_callback(_report)
        stack.push_async_callback(_end, works)
        yield process


def connect(config: Config) -> Database:
    """The database of a configuration; a call ends a little before the request it belongs to. Raises StartError."""
    try:
        return Database(
            config.mongodb_uri.get_secret_value(),
            config.mongodb_database,
            deadline_seconds=config.request_seconds * 0.8,
            pool=config.mongodb_pool,
        )
    except ConfigurationFault as fault:
        raise StartError(f"YIKA_MONGODB_URI cannot be used ({fault})") from None


def _report(task: asyncio.Task[None]) -> None:
    """None of them should end by itself; one that does is said at once, for the rest of the process lives on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background_failed", task=task.get_name(), error=type(error).__name__)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
