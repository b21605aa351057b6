"""What every command at the terminal has in common: what it says, how it reads its configuration, how it ends in words.

True here: a fault that an operator can mend is told in one line, with exit status 1. Never here: a traceback for such a fault;
an import of a part of the service that only some commands need.
"""

from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console

from service.config import Config, ConfigError, read_config
from service.errors import Refusal
from service.mendable import MendableError

out: Final = Console()
err: Final = Console(stderr=True)
_Result = TypeVar("_Result")


def stop(reason: object) -> NoReturn:
    """Say why it cannot go on, and end."""
    err.print(f"[bold red]yika:[/] {reason}", highlight=False)
    raise typer.Exit(1)


def configuration(**overrides: object) -> Config:
    """The configuration of the environment, or the end."""
    try:
        return read_config(**overrides)
    except ConfigError as error:
        stop(error)


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What some work gives, or the end."""
    try:
        return uvloop.run(work)
    except MendableError as error:
        stop(error)
    except Refusal as refusal:
        stop(f"the database does not answer ({refusal.code})")
