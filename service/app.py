"""The composition root: the only module that sees everything, and where everything is put together once.

True here: what a process starts it also ends, in reverse order; every background task is owned. Never here: a rule.
"""

from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from handlers.deadlines import Deadlines
from handlers.gauges import ledger_source, relay_source
from handlers.loop_lag import watch_loop
from handlers.metrics import Metrics
from handlers.services import Services
from schemas.cards import figures_writer
from service.activations import Activations
from service.background import background, carry_when_fit, follow_keyring, keep_sandbox
from service.balances import Balances
from service.bookkeeping import Bookkeeping, bookkeeping
from service.card_office import card_office
from service.cards import Cards
from service.changes import Changes
from service.chosen_gateways import connect_gateways
from service.chosen_policy import load_policy
from service.chosen_tracing import traced_gateways, traced_upstream, tracing_of
from service.city_books import CityBooks, city_books
from service.clock import Clock
from service.config import Config
from service.contact_office import contact_office
from service.counter_office import counter_office
from service.data_rights import data_rights
from service.deliveries import Deliveries
from service.dependants import Dependants
from service.desks import Desk
from service.ecard_office import ecard_office
from service.gateways.absent import AbsentFace
from service.gateways.chosen import Gateways
from service.gateways.counted import CallCounts, CountedUpstream
from service.gateways.face import FaceGateway
from service.holders import Holders
from service.idempotency import Idempotency
from service.identity import Identity
from service.insurance import Insurances
from service.insurance_errands import InsuranceErrands
from service.keyring import Keys
from service.limits import Limit, Limits, Pace
from service.lockouts import Lockouts
from service.mongo.applications import MongoApplicationStore
from service.mongo.approvals import MongoApprovalStore
from service.mongo.cards import MongoCardStore
from service.mongo.changes import MongoChangeStore
from service.mongo.client import Database
from service.mongo.consents import MongoConsentStore
from service.mongo.contacts import MongoContactStore
from service.mongo.copies import MongoCopyStore
from service.mongo.dependants import MongoDependantStore
from service.mongo.ecards import MongoEcardCodeStore, MongoEcardStore
from service.mongo.erasures import MongoErasureStore
from service.mongo.familiar import MongoFamiliarStore
from service.mongo.figures import MongoFigureStore
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.mongo.hotline import MongoCallCodeStore
from service.mongo.idempotency import MongoIdempotencyStore
from service.mongo.identity import MongoVerificationStore
from service.mongo.insurance import MongoRelationStore
from service.mongo.last_known import MongoLastKnownStore
from service.mongo.ledger import MongoLedgerStore
from service.mongo.limits import MongoLimitStore
from service.mongo.lockouts import MongoLockoutStore
from service.mongo.notifications import MongoMessageStore
from service.mongo.operators import MongoOperatorStore
from service.mongo.production_batches import MongoBatchStore
from service.mongo.receipts import MongoDeedStore
from service.mongo.sandbox import MongoSandboxStore
from service.mongo.sessions import MongoSessionStore
from service.mongo.tracing import CommandSpans
from service.mongo.visits import MongoVisitStore
from service.newcomers import Newcomers
from service.operators import Operators
from service.passwords import Passwords
from service.pins import Pins
from service.readiness import Readiness
from service.receipts import Receipts
from service.registrations import Registrations
from service.relay import SHARE_INSIDE, Relay
from service.sandbox.gateways import SandboxFace
from service.sandbox.invention import is_invented
from service.sandbox.personas import CastError
from service.sandbox.sandbox import Sandbox
from service.sandbox.seeding import Seeding
from service.sandbox.upstream import SandboxUpstream
from service.sessions import Sessions
from service.starting import StartError, connect, load_keys
from service.tokens import Tokens
from service.tracing import Tracing
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class Process:
    """Everything a process has, put together. Only a sandbox has a sandbox, and tracing only where a collector is named."""

    services: Services
    readiness: Readiness
    books: CityBooks
    log: Bookkeeping
    gateways: Gateways
    tracing: Tracing | None
    sandbox: Sandbox | None


def compose(  # noqa: PLR0913, PLR0917  everything a process is made of
    config: Config, database: Database, passwords: Passwords, keys: Keys, vault: Vault, tracing: Tracing | None
) -> Process:
    """Put one process together. Reads files, touches no network. Raises StartError for a file that cannot be used."""
    served, flow = load_policy(config)
    clock = Clock()
    tokens = Tokens(lambda: keys.ring, config.issuer, config.audience)
    cards = MongoCardStore(database, vault, figures_writer(served, clock))
    changes = Changes(cards, served, clock)
    holders = MongoHolderStore(database, vault)
    links = MongoDependantStore(database, vault)
    accesses = MongoAccessLogStore(database)
    limits = Limits(MongoLimitStore(database), vault, clock, address_factor=100 if config.sandbox else 1)
    dependants = Dependants(store=links, holders=holders, log=accesses, regions=served, limits=limits)
    session_store = MongoSessionStore(database)
    sessions = Sessions(session_store, tokens, vault, clock)
    operators = MongoOperatorStore(database, vault)
    sandbox_store = MongoSandboxStore(database, vault)
    played = SandboxUpstream(sandbox_store, lambda: the_sandbox().residents(), served, clock)
    gateways = traced_gateways(connect_gateways(config, sandbox_store, played, clock), tracing)
    face: FaceGateway = SandboxFace(sandbox_store, config.public_url) if config.sandbox else AbsentFace()
    messages = MongoMessageStore(database, vault)
    contact_store = MongoContactStore(database, vault)
    telling = contact_office(
        messages=messages,
        contacts=contact_store,
        links=links,
        session_news=session_store,
        familiar=MongoFamiliarStore(database),
        sessions=sessions,
        holders=holders,
        accesses=accesses,
        limits=limits,
        regions=served,
        vault=vault,
        clock=clock,
    )
    notifications = telling.notifications
    desk = Desk(holders=holders, cards=cards, log=accesses, vault=vault, clock=clock)
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
    relations = MongoRelationStore(database)
    insurance_errands = InsuranceErrands(
        store=relations, cards=cards, holders=holders, notifications=notifications, clock=clock
    )
    insurances = Insurances(relations, operators)

    def has_a_place(number: str) -> bool:
        # Outside a sandbox nobody has an invented number.
        return config.sandbox or not is_invented(number)

    applications, consents = MongoApplicationStore(database, vault), MongoConsentStore(database)
    office = card_office(
        store=applications,
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
    pocket = ecard_office(
        store=MongoEcardStore(database),
        codes=MongoEcardCodeStore(database),
        cards=cards,
        holders=holders,
        accesses=accesses,
        notifications=notifications,
        limits=limits,
        regions=served,
        passwords=passwords,
        vault=vault,
        clock=clock,
    )
    log = bookkeeping(
        store=MongoLedgerStore(database), changes=MongoChangeStore(database), accesses=accesses, tokens=tokens, clock=clock
    )
    rights = data_rights(
        consents=consents,
        copies=MongoCopyStore(database, vault),
        erasures=MongoErasureStore(database, vault),
        holders=holders,
        cards=cards,
        applications=applications,
        relations=relations,
        accesses=accesses,
        ledger=log.ledger,
        notifications=notifications,
        limits=limits,
        clock=clock,
    )
    counter = counter_office(
        calls=MongoCallCodeStore(database),
        approvals=MongoApprovalStore(database, vault),
        visits=MongoVisitStore(database),
        cards=cards,
        holders=holders,
        desk=desk,
        changes=changes,
        activations=activations,
        consents=rights.consents,
        notifications=notifications,
        limits=limits,
        regions=served,
        vault=vault,
        clock=clock,
    )
    relay = Relay(
        outbox=cards,
        # Written down before anybody is told.
        hearers=(log.cards, telling.cards),
        deliveries=Deliveries(store=messages, sms=gateways.sms, email=gateways.email, clock=clock),
        errands=(
            *(counter.approvals, insurance_errands, office.production, office.production_batches, pocket.news),
            *telling.errands,
            *rights.errands,
        ),
        posted=notifications.posted,
        clock=clock,
        share=SHARE_INSIDE if config.relay == "inside" else 1.0,
    )
    queries = Pace(Limit("queries", config.queries_per_minute, timedelta(minutes=1)))
    readiness = Readiness(database, vault, sandbox=config.sandbox)
    sandbox: Sandbox | None = None

    def the_sandbox() -> Sandbox:
        if sandbox is None:
            raise AssertionError("its routes exist in a sandbox only")
        return sandbox

    calls = CallCounts()
    books = city_books(
        gateway=traced_upstream(CountedUpstream(gateways.upstream, calls), tracing),
        store=MongoLastKnownStore(database, vault),
        figures=MongoFigureStore(database),
        balances=cards,
        holders=holders,
        regions=served,
        clock=clock,
        request_seconds=config.request_seconds,
    )
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
            sign_ins=telling.sign_ins,
            notifications=notifications,
            limits=limits,
            passwords=passwords,
            face=face,
            vault=vault,
            clock=clock,
        ),
        holders=Holders(holders, accesses),
        dependants=dependants,
        contacts=telling.contacts,
        consents=rights.consents,
        exports=rights.exports,
        erasures=rights.erasures,
        cards=Cards(cards),
        balances=Balances(cards),
        figures=books.figures,
        activations=activations,
        receipts=Receipts(MongoDeedStore(database), cards, tokens),
        ecards=pocket.ecards,
        ecard_codes=pocket.codes,
        applications=office.applications,
        bulk_applications=office.bulk_applications,
        production=office.production,
        production_batches=office.production_batches,
        changes=changes,
        pins=Pins(store=cards, changes=changes, holders=holders, regions=served, passwords=passwords, clock=clock),
        staff_cards=counter.staff_cards,
        approvals=counter.approvals,
        look_ups=counter.look_ups,
        hotline=counter.hotline,
        counters=counter.counters,
        visits=counter.visits,
        insurances=insurances,
        contributions=books.contributions,
        housing_funds=books.housing_funds,
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
        looks=log.looks,
        ledger=log.ledger,
        queries=queries,
        relay=relay,
        metrics=Metrics((relay_source(relay), ledger_source(log.ledger)), database.shared_trips, calls),
        deadlines=Deadlines(config.request_seconds),
        ready=readiness,
        sandbox=the_sandbox,
    )
    if not config.sandbox:
        return Process(services, readiness, books, log, gateways, tracing, None)
    try:
        seeding = Seeding(
            store=sandbox_store,
            cards=cards,
            holders=holders,
            dependants=links,
            operators=operators,
            relations=relations,
            consents=consents,
            contacts=contact_store,
            regions=served,
            passwords=passwords,
            vault=vault,
            clock=clock,
        )
    except CastError as error:
        raise StartError(str(error)) from None
    sandbox = Sandbox(seeding=seeding, store=sandbox_store, relay=relay, pace=queries, books=books, clock=clock)
    return Process(services, readiness, books, log, gateways, tracing, sandbox)


def _works(process: Process, *, carries: bool) -> dict[str, Coroutine[Any, Any, None]]:
    """What a process does besides answering; each runs until it is cancelled."""
    works = {"keyring": follow_keyring(process.services.keys), "upstream": process.books.upstream.run()}
    if carries:
        works["relay"] = carry_when_fit(process.readiness, process.services.relay)
        works["ledger"] = carry_when_fit(process.readiness, process.log.sequencer)
    works["loop lag"] = watch_loop(process.services.metrics)
    if process.sandbox is not None:
        works["sandbox"] = keep_sandbox(process.sandbox, process.readiness.people)
    return works


@asynccontextmanager
async def running(config: Config, *, carries: bool) -> AsyncIterator[Process]:
    """A process that is put together and whose background tasks run; leaving it ends them and closes everything.

    `carries`: whether the relay is one of them.
    """
    keys = load_keys(config)
    vault = Vault(lambda: keys.ring)
    async with AsyncExitStack() as stack:
        passwords = Passwords(vault)
        stack.callback(passwords.close)
        tracing = await stack.enter_async_context(tracing_of(config))
        database = await stack.enter_async_context(connect(config, *([CommandSpans(tracing)] if tracing else [])))
        process = compose(config, database, passwords, keys, vault, tracing)
        stack.push_async_callback(process.gateways.close)
        await stack.enter_async_context(background(_works(process, carries=carries)))
        yield process
