"""What every command starts from: its keys and its database.

True here: what is wrong is said for the person who starts it, before anything runs. Never here: a secret in those words; what
only a process that serves needs (chosen_policy.py, chosen_gateways.py), for every command would load it.
"""

from service.config import Config
from service.keyring import KeyringError, Keys
from service.mendable import MendableError
from service.mongo.client import ConfigurationFault, Database
from service.mongo.tracing import CommandSpans


class StartError(MendableError):
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
