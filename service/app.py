"""The composition root: the only module that sees everything, and where everything is put together once.

True here: what a process starts it also ends, in reverse order; every background task is owned. Never here: a rule.
"""

from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from handlers.deadlines import Deadlines
from handlers.metrics import Metrics
from handlers.services import Services
from service import pages, regions
from service.activations import Activations
from service.approvals import Approvals
from service.background import background, follow_keyring, keep_sandbox
from service.balances import Balances
from service.card_office import card_office
from service.cards import Cards
from service.changes import Changes
from service.clock import Clock
from service.config import Config
from service.counters import Counters
from service.dependants import Dependants
from service.desks import Desk
from service.gateways.absent import AbsentFace, AbsentSms
from service.gateways.face import FaceGateway
from service.gateways.sms import SmsGateway
from service.holders import Holders
from service.hotline import Hotline
from service.idempotency import Idempotency
from service.identity import Identity
from service.insurance import Insurances
from service.insurance_errands import InsuranceErrands
from service.keyring import KeyringError, Keys
from service.limits import Limit, Limits, Pace
from service.locale import catalogue
from service.lockouts import Lockouts
from service.lookups import LookUps
from service.mongo.applications import MongoApplicationStore
from service.mongo.approvals import MongoApprovalStore
from service.mongo.cards import MongoCardStore
from service.mongo.client import ConfigurationFault, Database
from service.mongo.dependants import MongoDependantStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.hotline import MongoCallCodeStore
from service.mongo.idempotency import MongoIdempotencyStore
from service.mongo.identity import MongoVerificationStore
from service.mongo.insurance import MongoRelationStore
from service.mongo.limits import MongoLimitStore
from service.mongo.lockouts import MongoLockoutStore
from service.mongo.notifications import MongoMessageStore
from service.mongo.operators import MongoOperatorStore
from service.mongo.production_batches import MongoBatchStore
from service.mongo.sandbox import MongoSandboxStore
from service.mongo.sessions import MongoSessionStore
from service.mongo.visits import MongoVisitStore
from service.newcomers import Newcomers
from service.notifications import Notifications
from service.operators import Operators
from service.pages import Pages
from service.passwords import Passwords
from service.pins import Pins
from service.readiness import Readiness
from service.regions import Regions
from service.registrations import Registrations
from service.relay import Relay
from service.sandbox.gateways import SandboxFace, SandboxSms
from service.sandbox.invention import is_invented, is_invented_region
from service.sandbox.personas import CastError
from service.sandbox.sandbox import Sandbox
from service.sessions import Sessions
from service.staff_cards import StaffCards
from service.strict_toml import FaultyFileError
from service.tokens import Tokens
from service.vault import Vault
from service.visits import Visits


class StartError(Exception):
    """The process cannot start; the text says why, for the person who started it."""


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
    changes = Changes(cards, served, clock)
    holders = MongoHolderStore(database, vault)
    links = MongoDependantStore(database, vault)
    accesses = MongoAccessLogStore(database)
    limits = Limits(MongoLimitStore(database), vault, clock, address_factor=100 if config.sandbox else 1)
    dependants = Dependants(store=links, holders=holders, log=accesses, regions=served, limits=limits)
    sessions = Sessions(MongoSessionStore(database), tokens, vault, clock)
    operators = MongoOperatorStore(database, vault)
    sandbox_store = MongoSandboxStore(database, vault)
    sms: SmsGateway = SandboxSms(sandbox_store, clock) if config.sandbox else AbsentSms()
    face: FaceGateway = SandboxFace(sandbox_store, config.public_url) if config.sandbox else AbsentFace()
    notifications = Notifications(MongoMessageStore(database, vault), sms, clock)
    desk = Desk(holders=holders, cards=cards, log=accesses, vault=vault, clock=clock)
    hotline = Hotline(
        store=MongoCallCodeStore(database), desk=desk, notifications=notifications, limits=limits, vault=vault, clock=clock
    )
    approvals = Approvals(store=MongoApprovalStore(database, vault), cards=cards, changes=changes, desk=desk, clock=clock)
    activations = Activations(
        store=cards,
        changes=changes,
        holders=holders,
        dependants=dependants,
        regions=served,
        limits=limits,
        tokens=tokens,
        clock=clock,
    )
    counters = Counters(
        desk=desk, holders=holders, activations=activations, hotline=hotline, regions=served, limits=limits, clock=clock
    )
    relations = MongoRelationStore(database)
    insurance_errands = InsuranceErrands(
        store=relations, cards=cards, holders=holders, notifications=notifications, clock=clock
    )
    insurances = Insurances(relations, operators)

    def has_a_place(number: str) -> bool:
        # Outside a sandbox nobody has an invented number.
        return config.sandbox or not is_invented(number)

    office = card_office(
        store=MongoApplicationStore(database, vault),
        batches=MongoBatchStore(database),
        cards=cards,
        holders=holders,
        accesses=accesses,
        changes=changes,
        insurance=insurances,
        notifications=notifications,
        limits=limits,
        regions=served,
        vault=vault,
        clock=clock,
        has_a_place=has_a_place,
    )
    relay = Relay(cards, notifications, holders, (approvals, insurance_errands, office.production, office.production_batches))
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
        operators=Operators(
            store=operators,
            sessions=sessions,
            limits=limits,
            lockouts=Lockouts(MongoLockoutStore(database), vault, clock),
            passwords=passwords,
            clock=clock,
        ),
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
        holders=Holders(holders, accesses),
        dependants=dependants,
        cards=Cards(cards),
        balances=Balances(cards),
        activations=activations,
        applications=office.applications,
        bulk_applications=office.bulk_applications,
        production=office.production,
        production_batches=office.production_batches,
        changes=changes,
        pins=Pins(store=cards, changes=changes, holders=holders, regions=served, passwords=passwords, clock=clock),
        staff_cards=StaffCards(
            cards=Cards(cards), store=cards, holders=holders, desk=desk, hotline=hotline, regions=served, clock=clock
        ),
        approvals=approvals,
        look_ups=LookUps(desk=desk, limits=limits, regions=served, clock=clock),
        hotline=hotline,
        counters=counters,
        visits=Visits(store=MongoVisitStore(database), counters=counters, activations=activations, clock=clock),
        insurances=insurances,
        registrations=Registrations(
            store=relations,
            people=holders,
            newcomers=Newcomers(holders, vault, has_a_place),
            limits=limits,
            log=accesses,
            errands=insurance_errands,
            regions=served,
            clock=clock,
        ),
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
            dependants=links,
            operators=operators,
            relations=relations,
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


def _works(process: Process) -> dict[str, Coroutine[Any, Any, None]]:
    """What a process does besides answering; each runs until it is cancelled."""
    works = {"relay": process.services.relay.run(), "keyring": follow_keyring(process.services.keys)}
    if process.sandbox is not None:
        works["sandbox"] = keep_sandbox(process.sandbox, process.readiness.people)
    return works


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
        await stack.enter_async_context(background(_works(process)))
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
