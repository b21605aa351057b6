"""The command line of operators: `python -m service operators …`.

True here: a password comes from standard input or is made up, and is shown once, like the address for the authenticator.
Never here: a password in an argument, where every process of the machine can read it.
"""

import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.table import Table

from service.actors import StaffRole
from service.clock import Clock
from service.config import Config
from service.enrolments import Enrolled, EnrolmentError, Enrolments, read_institution
from service.mongo.keyring import holds_the_keyring_of
from service.mongo.migrations import pending
from service.mongo.operators import MongoOperatorStore
from service.mongo.sessions import MongoSessionStore
from service.passwords import Passwords
from service.regions import SHIPPED, Regions
from service.starting import StartError, connect, load_keys
from service.strict_toml import FaultyFileError
from service.terminal import configuration, out, run, stop
from service.totp import enrolment_uri
from service.vault import Vault

operators_command = typer.Typer(no_args_is_help=True, help="Operators: who signs in behind the counters.")

_Result = TypeVar("_Result")
_ISSUER: Final = "Yika"
_Username = Annotated[str, typer.Argument(help="As the operator types it.")]
_FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of making one up.")
]


@operators_command.command()
def add(  # noqa: PLR0913  options, each with a name
    username: Annotated[str, typer.Argument(help="3 to 64 letters, digits, dots, dashes, underscores; unique.")],
    *,
    name: Annotated[str, typer.Option(help="The operator's name.")],
    role: Annotated[StaffRole, typer.Option(help="What they are there for.")],
    institution_file: Annotated[Path | None, typer.Option(help="The institution as a TOML file: docs/operators.md.")] = None,
    institution: Annotated[str | None, typer.Option(help="Or one that is here already, by its id.")] = None,
    password_stdin: _FromInput = False,
) -> None:
    """Take an operator on. Prints the password and the address for the authenticator, once."""
    if (institution_file is None) is (institution is None):
        stop("say --institution-file or --institution, and not both")
    config = configuration()
    password = _password(asked=password_stdin)

    async def work() -> Enrolled:
        async with _enrolments(config) as enrolments:
            if institution_file is not None:
                where = read_institution(institution_file, Regions.load_directory(config.regions_dir or SHIPPED))
            else:
                where = await enrolments.institution(institution or "")
            return await enrolments.add(username=username, name=name, role=role, institution=where, password=password)

    _hand_over(_done(work()), shown=password is None)


@operators_command.command()
def reset(username: _Username, *, password_stdin: _FromInput = False) -> None:
    """Give an operator a new password and authenticator, and sign them out; one who was disabled is back."""
    config = configuration()
    password = _password(asked=password_stdin)

    async def work() -> Enrolled:
        async with _enrolments(config) as enrolments:
            return await enrolments.reset(username, password)

    _hand_over(_done(work()), shown=password is None)


@operators_command.command()
def disable(username: _Username) -> None:
    """Refuse an operator from the next request on."""
    config = configuration()

    async def work() -> str:
        async with _enrolments(config) as enrolments:
            return (await enrolments.disable(username)).operator_id

    out.print(f"{_done(work())}: disabled, and signed out everywhere", highlight=False)


@operators_command.command("list")
def list_operators() -> None:
    """Show who there is."""
    config = configuration()

    async def work() -> Table:
        table = Table()
        for column in ("operator", "username", "role", "institution", "regions", "state"):
            table.add_column(column, overflow="fold")
        async with _enrolments(config) as enrolments:
            for operator in await enrolments.everybody():
                where = operator.institution
                table.add_row(
                    operator.operator_id,
                    operator.username,
                    operator.role,
                    f"{where.names.zh} {where.institution_id}",
                    " ".join(where.region_codes),
                    "disabled" if operator.disabled else "active",
                )
        return table

    out.print(_done(work()))


@asynccontextmanager
async def _enrolments(config: Config) -> AsyncIterator[Enrolments]:
    """The use cases on the database of a configuration. Raises StartError when it is not fit for them."""
    keys = load_keys(config)
    vault = Vault(lambda: keys.ring)
    passwords = Passwords(vault)
    try:
        async with connect(config) as database:
            if await pending(database):
                raise StartError("the database lacks migrations: run `python -m service migrate` first")
            if not config.sandbox and not await holds_the_keyring_of(database, vault):
                raise StartError("another keyring sealed the data of this database")
            yield Enrolments(
                store=MongoOperatorStore(database, vault),
                sessions=MongoSessionStore(database),
                passwords=passwords,
                clock=Clock(),
            )
    finally:
        passwords.close()


def _password(*, asked: bool) -> str | None:
    """The first line of standard input, when it was asked for."""
    return sys.stdin.readline().rstrip("\r\n") if asked else None


def _done(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What some work gives, or the end."""
    try:
        return run(work)
    except (EnrolmentError, FaultyFileError) as error:
        stop(error)


def _hand_over(enrolled: Enrolled, *, shown: bool) -> None:
    """Say, once, what the operator signs in with."""
    operator = enrolled.operator
    uri = enrolment_uri(enrolled.totp_secret, operator.username, _ISSUER)
    lines = [f"operator      {operator.operator_id}", f"institution   {operator.institution.institution_id}"]
    lines += [f"username      {operator.username}"]
    lines += [f"password      {enrolled.password}"] * shown
    lines += [f"authenticator {uri}", "This is shown once. Give it to the operator on a way that nobody else reads."]
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
