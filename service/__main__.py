"""The command line: `python -m service …`. Reads the configuration, says what it does, and leaves the doing to others."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
import typer
from rich.table import Table

from handlers.docs import Documents
from service.app import Process
from service.config import Config
from service.doctor_commands import doctor
from service.errors import Refusal
from service.import_commands import generate_rows, import_rows
from service.keyring import LEAD_SECONDS, KeyringError, alone_with, load_keyring, new_keyring, save_keyring
from service.ledger_commands import ledger_command
from service.logs import set_up_logs
from service.message_commands import messages_command
from service.mongo.embedded import EmbeddedMongo, EmbeddedMongoError
from service.mongo.migrations import migrate, pending
from service.operator_commands import operators_command
from service.places import PlaceError, borrowed, take_places, url
from service.policy_commands import policy_command
from service.relay_commands import spare_the_collector, worker
from service.server import Handed, Served, api_routes, serving
from service.starting import StartError, connect
from service.terminal import configuration as _config
from service.terminal import err as _err
from service.terminal import out as _out
from service.terminal import run as _run
from service.terminal import stop as _stop
from service.worker_channel import WorkerSide
from service.workers import Workers, WorkersError

command = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
keys_command = typer.Typer(no_args_is_help=True, help="The keyring: signing keys and keys for fields at rest.")
command.add_typer(keys_command, name="keys")
command.add_typer(policy_command, name="policy")
command.add_typer(operators_command, name="operators")
command.add_typer(ledger_command, name="ledger")
command.command("doctor")(doctor)
command.command("import")(import_rows)
command.command("generate")(generate_rows)
command.command("worker")(worker)
command.add_typer(messages_command, name="messages")

_FOLLOW_SECONDS: Final = 30.0


async def _serve(config: Config, announce: Callable[[Served], None], *, seed_first: bool = False) -> None:
    """Serve until told to stop, then finish what is under way."""
    set_up_logs(config.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, stop.set)
    async with serving(config, seed_first=seed_first) as served:
        spare_the_collector()
        announce(served)
        await stop.wait()
        served.process.readiness.stopping = True
        await asyncio.sleep(config.notice_seconds)


async def _migrate(config: Config) -> int:
    async with connect(config) as database:
        return await migrate(database, lambda line: _out.print(line, highlight=False, soft_wrap=True))


@command.command()
def serve() -> None:
    """Serve the API with the configuration from the environment."""
    config = _config()
    if config.workers > 1:
        _serve_by_several(config)
        return

    def announce(served: Served) -> None:
        _out.print(f"yika serves {served.url}, admin {served.admin_url}", highlight=False, soft_wrap=True)

    _run(_serve(config, announce))


def _serve_by_several(config: Config) -> None:
    set_up_logs(config.log_level)
    try:
        places = take_places(config)
    except PlaceError as error:
        _stop(error)
    shown = url(places[0].public, config.host)
    admin = " ".join(url(place.admin, config.admin_host) for place in places)

    def announce() -> None:
        _out.print(f"yika serves {shown}, admin {admin}", highlight=False, soft_wrap=True)

    try:
        _run(Workers(config, places, ("-m", "service", "serve-one")).run(announce))
    except WorkersError as error:
        if str(error):
            _stop(error)
        raise typer.Exit(1) from None


@command.command("serve-one", hidden=True)
def serve_one(public: int, admin: int, channel: int, *, successor: bool = False) -> None:
    """One of several; `serve` starts it with the numbers of its sockets."""
    config = _config()
    side = WorkerSide(borrowed(channel))

    async def first(process: Process) -> None:
        if successor:
            await _fit_to_follow(process, side.stop)

    _run(_work(config, side, Handed(borrowed(public), borrowed(admin), first)))


async def _fit_to_follow(process: Process, stop: asyncio.Event) -> None:
    """Return once this worker can do what the one it follows does. Raises StartError when it cannot, also after a while."""
    reason = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FOLLOW_SECONDS):
            while not stop.is_set():
                try:
                    await process.readiness()
                except Refusal as refusal:
                    reason = str(refusal.facts.get("reason", refusal.code))
                    await asyncio.sleep(0.2)
                else:
                    return
            return
    raise StartError(f"this worker is not ready ({reason}); the one it should have followed goes on")


async def _work(config: Config, side: WorkerSide, handed: Handed) -> None:
    """Serve until told to stop or to leave, then finish what is under way."""
    set_up_logs(config.log_level)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, side.stop.set)
    async with side, serving(config, handed=handed) as served:
        spare_the_collector()
        side.tell_listening()
        await side.over()
        if side.leave.is_set():
            await served.leave(config.drain_seconds, side.stop)
        else:
            served.process.readiness.stopping = True
            await asyncio.sleep(config.notice_seconds)


@command.command()
def sandbox() -> None:
    """Everything on this machine: an embedded MongoDB, keys, invented people, and the API. For `make run`."""
    started = time.perf_counter()
    config = _config(environment="sandbox")
    # Signals that come before the loop runs must still end the database.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        if not config.mongodb_uri.get_secret_value():
            try:
                mongo = stack.enter_context(
                    EmbeddedMongo.start(
                        config.data_dir / "mongodb",
                        say=lambda line: _out.print(line, highlight=False),
                        server=os.environ.get("YIKA_EMBEDDED_SERVER", "auto"),  # type: ignore[arg-type]  # it is checked there
                    )
                )
            except EmbeddedMongoError as error:
                _stop(error)
            config = _config(environment="sandbox", mongodb_uri=mongo.uri)
            database = mongo.name
        else:
            database = "the MongoDB of YIKA_MONGODB_URI"
        with _keyring_file() as path:
            if not path.exists():
                save_keyring(path, new_keyring("sandbox"))
        _run(_sandbox(config, database, started))


async def _sandbox(config: Config, database: str, started: float) -> None:
    await _migrate(config)

    def announce(served: Served) -> None:
        _welcome(served, database, time.perf_counter() - started)

    await _serve(config, announce, seed_first=True)


def _welcome(served: Served, database: str, seconds: float) -> None:
    url = served.url
    _out.print(
        f"\n[bold]Yika[/] sandbox on [bold]{url}[/] with {database}, up in {seconds:.1f} s", highlight=False, soft_wrap=True
    )
    _out.print(
        f"documents {url}/docs   metrics {served.admin_url}/metrics   Ctrl-C stops everything\n",
        highlight=False,
        soft_wrap=True,
    )
    _out.print("Try these:", highlight=False)
    body = '{"method":"password","name":"…","idNumber":"…"}'
    start = f"curl -s {url}/v1/identity/verifications -H 'Content-Type: application/json' -d '{body}'"
    for line in (f"curl -s {url}/v1/pages/home -H 'Accept-Language: en'", f"curl -s {url}/sandbox/personas", start):
        _out.print(f"  {line}", highlight=False, soft_wrap=True)
    _out.print("Put a persona's name and ID number into the last; README.md goes on from there.", highlight=False)
    sys.stdout.flush()


@command.command("migrate")
def migrate_command(
    *, check: Annotated[bool, typer.Option("--check", help="Only say what is pending; exit 1 if anything is.")] = False
) -> None:
    """Bring the database to this version."""
    config = _config()

    async def work() -> None:
        if not check:
            steps = await _migrate(config)
            _out.print(f"{steps} steps applied" if steps else "nothing to do")
            return
        async with connect(config) as database:
            steps_pending = await pending(database)
        for step in steps_pending:
            _out.print(f"pending: {step.number} {step.name}", highlight=False, soft_wrap=True)
        if steps_pending:
            raise typer.Exit(1)
        _out.print("nothing is pending")

    _run(work())


@command.command()
def openapi(
    *, check: Annotated[bool, typer.Option("--check", help="Check the document instead of printing it.")] = False
) -> None:
    """Print the OpenAPI document."""
    document = Documents(api_routes(sandbox=True), server="/").document
    if not check:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        return
    from handlers.openapi_check import openapi_problems  # noqa: PLC0415  it stands on tools that only developers have

    problems = openapi_problems(document)
    for problem in problems:
        _err.print(problem, highlight=False)
    if problems:
        raise typer.Exit(1)
    _out.print("the OpenAPI document is whole")


@contextmanager
def _keyring_file() -> Iterator[Path]:
    """Where the keyring is or shall be, with nobody else changing it meanwhile."""
    # Keys are made before there is a database to point at.
    path = _config(environment="sandbox").keyring_path
    try:
        with alone_with(path):
            yield path
    except KeyringError as error:
        _stop(error)


@keys_command.command()
def generate(*, for_sandbox: Annotated[bool, typer.Option("--sandbox", help="Keys that production refuses.")] = False) -> None:
    """Make a keyring where there is none."""
    with _keyring_file() as path:
        if path.exists():
            _stop(f"{path} is there already; nothing was changed")
        save_keyring(path, new_keyring("sandbox" if for_sandbox else "production"))
    _out.print(f"wrote {path}; back it up: what it sealed cannot be read without it", highlight=False, soft_wrap=True)


@keys_command.command()
def rotate(
    *,
    fields: Annotated[bool, typer.Option("--fields", help="The key for fields at rest instead of the signing key.")] = False,
    lead: Annotated[float, typer.Option(min=0, help="Seconds from publishing a key to using it.")] = LEAD_SECONDS,
) -> None:
    """Add a key. Running processes notice by themselves."""
    with _keyring_file() as path:
        ring, now = load_keyring(path), time.time()
        save_keyring(path, ring.rotate_field(now, lead) if fields else ring.rotate_signing(now, lead))
    _out.print(f"added; in use in {lead:.0f} s", highlight=False)


@keys_command.command("list")
def list_keys() -> None:
    """Show the keys, never their secret parts."""
    now = time.time()
    with _keyring_file() as path:
        ring = load_keyring(path)
        signer, sealer = ring.signer(now).kid, ring.sealer(now).kid
    table = Table("key", "use", "from", "state")
    for key in ring.signing_keys:
        state = "signs" if key.kid == signer else "verifies receipts" if key.retired else "verifies"
        table.add_row(key.kid, "signing", _local(key.signs_from), "next" if key.signs_from > now else state)
    for sealing in ring.field_keys:
        state = "seals" if sealing.kid == sealer else "opens"
        table.add_row(sealing.kid, "fields", _local(sealing.seals_from), "next" if sealing.seals_from > now else state)
    _out.print(table)


def _local(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(moment))


@keys_command.command()
def retire(kid: str) -> None:
    """Drop the private half of a signing key; old receipts stay verifiable, old sessions must refresh."""
    _change(kid, "retire")


@keys_command.command()
def revoke(kid: str) -> None:
    """Forget a signing key that leaked; nothing it signed is believed any more."""
    _change(kid, "revoke")


def _change(kid: str, verb: Literal["retire", "revoke"]) -> None:
    with _keyring_file() as path:
        ring = load_keyring(path)
        save_keyring(path, ring.retire(kid, time.time()) if verb == "retire" else ring.revoke(kid, time.time()))
    _out.print(f"{kid}: done", highlight=False)


if __name__ == "__main__":
    command()
