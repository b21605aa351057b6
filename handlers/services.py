"""What handlers stand on: the use cases of every noun, put together once by the composition root."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from handlers.deadlines import Deadlines
from handlers.metrics import Metrics
from service.activations import Activations
from service.applications import Applications
from service.approvals import Approvals
from service.balances import Balances
from service.bulk_applications import BulkApplications
from service.cards import Cards
from service.changes import Changes
from service.clock import Clock
from service.config import Config
from service.consents import Consents
from service.contacts import ContactBook
from service.contributions import Contributions
from service.counters import Counters
from service.dependants import Dependants
from service.ecard_codes import EcardCodes
from service.ecards import Ecards
from service.erasures import Erasures
from service.exports import Exports
from service.figures import Figures
from service.holders import Holders
from service.hotline import Hotline
from service.housing_funds import HousingFunds
from service.idempotency import Idempotency
from service.identity import Identity
from service.insurance import Insurances
from service.keyring import Keys
from service.ledger import Ledger
from service.limits import Pace
from service.looks import Looks
from service.lookups import LookUps
from service.operators import Operators
from service.pages import Pages
from service.pins import Pins
from service.production import Production
from service.production_batches import ProductionBatches
from service.receipts import Receipts
from service.regions import Regions
from service.registrations import Registrations
from service.relay import Relay
from service.sandbox.sandbox import Sandbox
from service.sessions import Sessions
from service.staff_cards import StaffCards
from service.tokens import Tokens
from service.visits import Visits


@dataclass(frozen=True, slots=True)
class Services:
    """Every use case there is. `ready` refuses while this process should get no traffic.

    `sandbox`: the sandbox; only routes that exist in one ask.
    """

    config: Config
    clock: Clock
    keys: Keys
    tokens: Tokens
    regions: Regions
    pages: Pages
    sessions: Sessions
    operators: Operators
    identity: Identity
    holders: Holders
    dependants: Dependants
    contacts: ContactBook
    consents: Consents
    exports: Exports
    erasures: Erasures
    cards: Cards
    balances: Balances
    figures: Figures
    activations: Activations
    receipts: Receipts
    ecards: Ecards
    ecard_codes: EcardCodes
    applications: Applications
    bulk_applications: BulkApplications
    production: Production
    production_batches: ProductionBatches
    changes: Changes
    pins: Pins
    staff_cards: StaffCards
    approvals: Approvals
    look_ups: LookUps
    hotline: Hotline
    counters: Counters
    visits: Visits
    insurances: Insurances
    contributions: Contributions
    housing_funds: HousingFunds
    registrations: Registrations
    idempotency: Idempotency
    looks: Looks
    ledger: Ledger
    queries: Pace
    relay: Relay
    metrics: Metrics
    deadlines: Deadlines
    ready: Callable[[], Awaitable[None]]
    sandbox: Callable[[], Sandbox]
