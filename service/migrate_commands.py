"""The command line of migrations: `python -m service migrate`.

True here: whether anything is pending is told by the exit status too. Never here: a step.
"""

from typing import Annotated

import typer

from service.config import Config
from service.mongo.migrations import migrate, pending
from service.starting import connect
from service.terminal import configuration, out, run


async def bring_up(config: Config) -> int:
    """Apply what is missing, and say it step by step; how many steps that were. Raises StartError and MigrationError."""
    async with connect(config) as database:
        return await migrate(database, lambda line: out.print(line, highlight=False, soft_wrap=True))


def migrate_command(
    *, check: Annotated[bool, typer.Option("--check", help="Only say what is pending; exit 1 if anything is.")] = False
) -> None:
    """Bring the database to this version."""
    config = configuration()

    async def work() -> None:
        if not check:
            steps = await bring_up(config)
            out.print(f"{steps} steps applied" if steps else "nothing to do")
            return
        async with connect(config) as database:
            steps_pending = await pending(database)
        for step in steps_pending:
            out.print(f"pending: {step.number} {step.name}", highlight=False, soft_wrap=True)
        if steps_pending:
            raise typer.Exit(1)
        out.print("nothing is pending")

    run(work())
