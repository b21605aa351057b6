"""The command line of messages: `python -m service messages …`.

True here: it shows which messages did not go out or may not have, and takes what a person decides about each; it reads no
keyring and opens nothing. Never here: a number, an address or a text.
"""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from service.clock import CHINA, Clock
from service.config import Config
from service.mongo.migrations import pending
from service.mongo.undelivered import MongoUndeliveredStore
from service.notifications import State
from service.starting import StartError, connect
from service.terminal import configuration, out, run, stop
from service.undelivered import MOST_LISTED, STUCK, Stuck, StuckState, Undelivered, UndeliveredError

messages_command = typer.Typer(no_args_is_help=True, help="Messages that are dead, or of which nobody knows.")

_Result = TypeVar("_Result")
_MessageId = Annotated[str, typer.Argument(help="As `messages list` shows it.")]


@messages_command.command("list")
def list_messages(
    *, state: Annotated[StuckState | None, typer.Option(help="Only those in this state; without it, both.")] = None
) -> None:
    """Show what did not go out, or may not have; the last first."""
    config = configuration()

    async def work() -> tuple[list[Stuck], bool]:
        async with _undelivered(config) as undelivered:
            return await undelivered.listed((state,) if state else STUCK)

    found, more = _done(work())
    table = Table("message", "state", "channel", "template", "posted", "settled", "tries")
    for one in found:
        moments = _local(one.posted_at), _local(one.settled_at)
        table.add_row(one.message_id, one.state, one.channel, one.template, *moments, str(one.attempts))
    out.print(table)
    if more:
        out.print(f"and more than these {MOST_LISTED}", highlight=False)


@messages_command.command()
def resend(message_id: _MessageId) -> None:
    """Offer a message again. Where it had arrived after all, and the provider tells no repeats, it arrives twice."""
    config = configuration()

    async def work() -> State:
        async with _undelivered(config) as undelivered:
            return await undelivered.resend(message_id)

    before = _done(work())
    out.print(f"{message_id}: {f'was {before}, goes out again' if before in STUCK else _unchanged(before)}", highlight=False)


@messages_command.command()
def settle(message_id: _MessageId) -> None:
    """Leave a message at what it is; it is listed and counted no more."""
    config = configuration()

    async def work() -> State:
        async with _undelivered(config) as undelivered:
            return await undelivered.settle(message_id)

    before = _done(work())
    out.print(f"{message_id}: {f'was {before}, settled' if before in STUCK else _unchanged(before)}", highlight=False)


def _unchanged(state: State) -> str:
    words: dict[State, str] = {"due": "waits to go out", "sending": "is going out", "sent": "is sent", "closed": "is settled"}
    return f"{words[state]}; nothing was changed"


def _local(moment: datetime | None) -> str:
    return f"{moment.astimezone(CHINA):%Y-%m-%d %H:%M:%S}" if moment else ""


@asynccontextmanager
async def _undelivered(config: Config) -> AsyncIterator[Undelivered]:
    """The use cases on the database of a configuration. Raises StartError when it lacks migrations."""
    async with connect(config) as database:
        if await pending(database):
            raise StartError("the database lacks migrations: run `python -m service migrate` first")
        yield Undelivered(MongoUndeliveredStore(database), Clock())


def _done(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What some work gives, or the end."""
    try:
        return run(work)
    except UndeliveredError as error:
        stop(error)
