"""Which gateways a process has, a sandbox's among them.

True here: where no real one is connected, a sandbox plays one and production has one that says so. Never here: an adapter; they
are put together in service/gateways/chosen.py.
"""

from service.clock import Clock
from service.config import Config
from service.gateways.absent import AbsentEmail, AbsentSms, AbsentUpstream
from service.gateways.chosen import Gateways, chosen
from service.gateways.upstream import UpstreamGateway
from service.sandbox.gateways import SandboxEmail, SandboxSms, SentStore
from service.starting import StartError
from service.strict_toml import FaultyFileError


def connect_gateways(config: Config, store: SentStore, upstream: UpstreamGateway, clock: Clock) -> Gateways:
    """Who sends and is asked. Where none is connected, a sandbox plays one. Raises StartError for an unusable file."""
    try:
        if config.sandbox:
            return chosen(config, SandboxSms(store, clock), SandboxEmail(store, clock), upstream)
        return chosen(config, AbsentSms(), AbsentEmail(), AbsentUpstream())
    except FaultyFileError as error:
        raise StartError(str(error)) from None
