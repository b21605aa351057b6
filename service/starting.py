"""What every process starts from: its keys, its regions and pages, its database, its gateways.

True here: what is wrong is said for the person who starts it, before anything runs. Never here: a secret in those words.
"""

from service import pages, regions
from service.clock import Clock
from service.config import Config
from service.gateways.absent import AbsentEmail, AbsentSms, AbsentUpstream
from service.gateways.chosen import Gateways, chosen
from service.gateways.upstream import UpstreamGateway
from service.keyring import KeyringError, Keys
from service.locale import catalogue
from service.mongo.client import ConfigurationFault, Database
from service.mongo.tracing import CommandSpans
from service.pages import Pages
from service.regions import Regions
from service.sandbox.gateways import SandboxEmail, SandboxSms, SentStore
from service.sandbox.invention import is_invented_region
from service.strict_toml import FaultyFileError


class StartError(Exception):
    """The process cannot start; the text says why, for the person who started it."""


def load_keys(config: Config) -> Keys:
    """The keyring. Raises StartError when it is missing, unsafe, or of another environment."""
    try:
        keys = Keys(config.keyring_path)
    except KeyringError as error:
        raise StartError(str(error)) from None
    if keys.ring.purpose != config.environment:
        raise StartError(f"the keyring is for {keys.ring.purpose}, this is {config.environment}: secrets are never shared")
    return keys


def load_policy(config: Config) -> tuple[Regions, Pages]:
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


def connect(config: Config, *listeners: CommandSpans) -> Database:
    """The database of a configuration; a call ends a little before the request it belongs to. Raises StartError."""
    try:
        return Database(
            config.mongodb_uri.get_secret_value(),
            config.mongodb_database,
            deadline_seconds=config.request_seconds * 0.8,
            pool=config.mongodb_pool,
            listeners=listeners,
        )
    except ConfigurationFault as fault:
        raise StartError(f"YIKA_MONGODB_URI cannot be used ({fault})") from None


def connect_gateways(config: Config, store: SentStore, upstream: UpstreamGateway, clock: Clock) -> Gateways:
    """Who sends and is asked. Where none is connected, a sandbox plays one. Raises StartError for an unusable file."""
    try:
        if config.sandbox:
            return chosen(config, SandboxSms(store, clock), SandboxEmail(store, clock), upstream)
        return chosen(config, AbsentSms(), AbsentEmail(), AbsentUpstream())
    except FaultyFileError as error:
        raise StartError(str(error)) from None
