"""What handlers stand on: the use cases of every noun, put together once by the composition root."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from handlers.deadlines import Deadlines
from handlers.metrics import Metrics
from service.activations import Activations
from service.balances import Balances
from service.cards import Cards
from service.clock import Clock
from service.config import Config
from service.holders import Holders
from service.idempotency import Idempotency
from service.identity import Identity
from service.keyring import Keys
from service.limits import Pace
from service.pages import Pages
from service.regions import Regions
from service.relay import Relay
from service.sandbox.sandbox import Sandbox
from service.sessions import Sessions
from service.tokens import Tokens


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
    identity: Identity
    holders: Holders
    cards: Cards
    balances: Balances
    activations: Activations
    idempotency: Idempotency
    queries: Pace
    relay: Relay
    metrics: Metrics
    deadlines: Deadlines
    ready: Callable[[], Awaitable[None]]
    sandbox: Callable[[], Sandbox]
