"""The command line of the keyring: `python -m service keys …`.

True here: of two changes at once the second sees what the first made. Never here: a secret part of a key on the screen.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from service.keyring import LEAD_SECONDS, KeyringError, alone_with, load_keyring, new_keyring, save_keyring
from service.terminal import configuration, out, stop

keys_command = typer.Typer(no_args_is_help=True, help="The keyring: signing keys and keys for fields at rest.")


@contextmanager
def keyring_file() -> Iterator[Path]:
    """Where the keyring is or shall be, with nobody else changing it meanwhile."""
    # Keys are made before there is a database to point at.
    path = configuration(environment="sandbox").keyring_path
    try:
        with alone_with(path):
            yield path
    except KeyringError as error:
        stop(error)


@keys_command.command()
def generate(*, for_sandbox: Annotated[bool, typer.Option("--sandbox", help="Keys that production refuses.")] = False) -> None:
    """Make a keyring where there is none."""
    with keyring_file() as path:
        if path.exists():
            stop(f"{path} is there already; nothing was changed")
        save_keyring(path, new_keyring("sandbox" if for_sandbox else "production"))
    out.print(f"wrote {path}; back it up: what it sealed cannot be read without it", highlight=False, soft_wrap=True)


@keys_command.command()
def rotate(
    *,
    fields: Annotated[bool, typer.Option("--fields", help="The key for fields at rest instead of the signing key.")] = False,
    lead: Annotated[float, typer.Option(min=0, help="Seconds from publishing a key to using it.")] = LEAD_SECONDS,
) -> None:
    """Add a key. Running processes notice by themselves."""
    with keyring_file() as path:
        ring, now = load_keyring(path), time.time()
        save_keyring(path, ring.rotate_field(now, lead) if fields else ring.rotate_signing(now, lead))
    out.print(f"added; in use in {lead:.0f} s", highlight=False)


@keys_command.command("list")
def list_keys() -> None:
    """Show the keys, never their secret parts."""
    now = time.time()
    with keyring_file() as path:
        ring = load_keyring(path)
        signer, sealer = ring.signer(now).kid, ring.sealer(now).kid
    table = Table("key", "use", "from", "state")
    for key in ring.signing_keys:
        state = "signs" if key.kid == signer else "verifies receipts" if key.retired else "verifies"
        table.add_row(key.kid, "signing", _local(key.signs_from), "next" if key.signs_from > now else state)
    for sealing in ring.field_keys:
        state = "seals" if sealing.kid == sealer else "opens"
        table.add_row(sealing.kid, "fields", _local(sealing.seals_from), "next" if sealing.seals_from > now else state)
    out.print(table)


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
    with keyring_file() as path:
        ring = load_keyring(path)
        save_keyring(path, ring.retire(kid, time.time()) if verb == "retire" else ring.revoke(kid, time.time()))
    out.print(f"{kid}: done", highlight=False)
