"""The command line: `python -m service …`. A table of commands, and where each is.

True here: what a command needs is imported when it is asked for, because the whole service takes more than a second to import
and most commands end sooner; the processes of an import import this module too, each anew. Never here: an import of a part of
the service at the top; what a command does.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group


class _Place(NamedTuple):
    """Where a command is: a function, or a group of commands, of a module. A hidden one is not for people."""

    module: str
    name: str
    hidden: bool = False


# In the order in which help shows them.
_PLACES: Final = {
    "doctor": _Place("service.doctor_commands", "doctor"),
    "import": _Place("service.import_commands", "import_rows"),
    "generate": _Place("service.generate_commands", "generate_rows"),
    "worker": _Place("service.relay_commands", "worker"),
    "serve": _Place("service.serve_commands", "serve"),
    "serve-one": _Place("service.serve_commands", "serve_one", hidden=True),
    "sandbox": _Place("service.sandbox_commands", "sandbox"),
    "migrate": _Place("service.migrate_commands", "migrate_command"),
    "openapi": _Place("service.openapi_commands", "openapi"),
    "keys": _Place("service.key_commands", "keys_command"),
    "policy": _Place("service.policy_commands", "policy_command"),
    "operators": _Place("service.operator_commands", "operators_command"),
    "ledger": _Place("service.ledger_commands", "ledger_command"),
    "messages": _Place("service.message_commands", "messages_command"),
}


class _OnDemand(Mapping[str, Any]):
    """The commands of the table as typer holds them, by name. Names are known; what stands behind one is imported when read."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  typer has no public name for what it keeps
        place = _PLACES[name]
        found = getattr(import_module(place.module), place.name)
        alone = typer.Typer(add_completion=False)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name, hidden=place.hidden)(found)
        return get_group(alone).commands[name]

    def get(self, key: object, default: Any = None) -> Any:  # noqa: ANN401  as above
        # What is inherited takes a KeyError inside a module for a command that is none.
        return self[str(key)] if key in _PLACES else default

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class _Commands(TyperGroup):
    """The group at the top. Only help, which shows a line of each command, reads all of them."""

    def __init__(self, **told: Any) -> None:  # noqa: ANN401  typer's own words, handed on
        super().__init__(**told)
        on_demand: Any = _OnDemand()
        self.commands = on_demand


command = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The command line: `python -m service …`. Reads the configuration, says what it does, and leaves the doing to others.",
)


@command.callback()
def _top() -> None:
    # typer takes it for a group of commands because of this.
    pass


if __name__ == "__main__":
    command()
