"""The command line's look at a deployment: `python -m service doctor`.

True here: it changes nothing, sends nothing, and goes on after what it finds wrong, so that all is told at once; what cannot
serve ends it with status 1, and what merely leaves something undone is a warning. Never here: a secret, or an address with
credentials in it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import typer
from rich.table import Table

from service.chosen_policy import load_policy
from service.config import Config, ConfigError, read_config
from service.errors import Refusal
from service.gateways.absent import AbsentEmail, AbsentSms, AbsentUpstream
from service.gateways.chosen import Gateways, chosen
from service.gateways.sending import SendFailed
from service.mongo.client import Database, StorageError
from service.mongo.keyring import keyring_of
from service.mongo.migrations import MigrationError, pending
from service.starting import StartError, connect, load_keys
from service.strict_toml import FaultyFileError
from service.terminal import out, run
from service.vault import Vault

State = Literal["well", "warning", "wrong"]
_COLOURS: Final[dict[State, str]] = {"well": "green", "warning": "yellow", "wrong": "bold red"}
_DATABASE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and why."""

    part: str
    state: State
    told: str


def doctor() -> None:
    """Look at settings, keyring, region packs, database and gateways, and change nothing; exit 1 when anything is wrong."""
    try:
        config = read_config()
    except ConfigError as error:
        _tell([Finding("settings", "wrong", line) for line in str(error).splitlines()])
        raise typer.Exit(1) from None
    findings = [Finding("settings", "well", f"{config.environment}, issuer {config.issuer}"), *_files(config)]
    findings += run(_connected(config))
    _tell(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _tell(findings: list[Finding]) -> None:
    table = Table("part", "state", "what there is to say")
    for finding in findings:
        table.add_row(finding.part, f"[{_COLOURS[finding.state]}]{finding.state}[/]", finding.told)
    out.print(table)


def _files(config: Config) -> Iterator[Finding]:
    """What lies on the disk."""
    yield from _tried("keyring", lambda: f"{len(load_keys(config).ring.signing_keys)} signing keys, for {config.environment}")
    yield from _tried("region packs", lambda: f"{len(load_policy(config)[0].by_code)} regions, and texts in both languages")


def _tried(part: str, look: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding(part, "well", look())
    except StartError as error:
        for line in str(error).splitlines():
            yield Finding(part, "wrong", line)


async def _connected(config: Config) -> list[Finding]:
    """What takes a network."""
    return [finding async for finding in _database(config)] + [finding async for finding in _gateways(config)]


async def _database(config: Config) -> AsyncIterator[Finding]:
    if not config.mongodb_uri.get_secret_value():
        yield Finding("database", "warning", "none is named; `python -m service sandbox` brings its own")
        return
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), connect(config) as database:
            await database.ping()
            if await database.is_replicated():
                yield Finding("database", "well", f"answers, {config.mongodb_database}")
            else:
                yield Finding("database", "wrong", "is a lone server; a replica set is needed, also of one member")
            yield await _migrations(database)
            async for finding in _mark(config, database):
                yield finding
    except StartError as error:
        yield Finding("database", "wrong", str(error))
    except (Refusal, StorageError, TimeoutError):
        yield Finding("database", "wrong", "does not answer")


async def _migrations(database: Database) -> Finding:
    try:
        steps = await pending(database)
    except MigrationError as error:
        return Finding("migrations", "wrong", str(error))
    if steps:
        return Finding("migrations", "wrong", f"{len(steps)} steps are missing: run `python -m service migrate`")
    return Finding("migrations", "well", "none is missing")


async def _mark(config: Config, database: Database) -> AsyncIterator[Finding]:
    """Whether the keyring is the one that sealed the data. A sandbox puts its people there anew under another."""
    if config.sandbox:
        return
    try:
        keys = load_keys(config)
    except StartError:
        # It was said already.
        return
    ours = await keyring_of(database, Vault(lambda: keys.ring))
    if ours is None:
        yield Finding("sealed data", "well", "none yet; the first process that is ready leaves its mark")
    elif ours:
        yield Finding("sealed data", "well", "was sealed under this keyring")
    else:
        yield Finding("sealed data", "wrong", "another keyring sealed the data of this database")


async def _gateways(config: Config) -> AsyncIterator[Finding]:
    try:
        gateways = chosen(config, AbsentSms(), AbsentEmail(), AbsentUpstream())
    except FaultyFileError as error:
        for line in str(error).splitlines():
            yield Finding("gateways", "wrong", line)
        return
    for part, word, lacks in (
        ("text messages", config.sms_gateway, "nobody gets a code, so nobody can sign in by SMS"),
        ("email", config.email_gateway, "nobody hears of anything by email"),
        ("city's systems", "upstream" if config.upstream_url else "absent", "figures are those that an import brought"),
    ):
        if word == "absent":
            yield _absent(config, part, lacks)
        else:
            yield await _reached(gateways, part, word)
    yield _absent(config, "face verification", "it answers 503")
    await gateways.close()


def _absent(config: Config, part: str, lacks: str) -> Finding:
    if config.sandbox:
        return Finding(part, "well", "played by the sandbox")
    return Finding(part, "warning", f"nobody is connected: {lacks}")


async def _reached(gateways: Gateways, part: str, word: str) -> Finding:
    try:
        await gateways.connected[word].reachable()
    except SendFailed:
        return Finding(part, "wrong", f"{word}: nobody answers, or not to us")
    return Finding(part, "well", f"{word}: answers; nothing was sent")
