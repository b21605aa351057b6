"""The command line of a whole service on this machine: `python -m service sandbox`.

True here: what it starts it also ends, the database too. Never here: production; its keyring is a sandbox's.
"""

import os
import signal
import sys
import time
from contextlib import ExitStack

from service.config import Config
from service.key_commands import keyring_file
from service.keyring import new_keyring, save_keyring
from service.migrate_commands import bring_up
from service.mongo.embedded import EmbeddedMongo, EmbeddedMongoError
from service.serve_commands import serve_until_told
from service.server import Served
from service.terminal import configuration, out, run, stop


def sandbox() -> None:
    """Everything on this machine: an embedded MongoDB, keys, invented people, and the API. For `make run`."""
    started = time.perf_counter()
    config = configuration(environment="sandbox")
    # Signals that come before the loop runs must still end the database.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        if not config.mongodb_uri.get_secret_value():
            try:
                mongo = stack.enter_context(
                    EmbeddedMongo.start(
                        config.data_dir / "mongodb",
                        say=lambda line: out.print(line, highlight=False),
                        server=os.environ.get("YIKA_EMBEDDED_SERVER", "auto"),  # type: ignore[arg-type]  # it is checked there
                    )
                )
            except EmbeddedMongoError as error:
                stop(error)
            config = configuration(environment="sandbox", mongodb_uri=mongo.uri)
            database = mongo.name
        else:
            database = "the MongoDB of YIKA_MONGODB_URI"
        with keyring_file() as path:
            if not path.exists():
                save_keyring(path, new_keyring("sandbox"))
        run(_sandbox(config, database, started))


async def _sandbox(config: Config, database: str, started: float) -> None:
    await bring_up(config)

    def announce(served: Served) -> None:
        _welcome(served, database, time.perf_counter() - started)

    await serve_until_told(config, announce, seed_first=True)


def _welcome(served: Served, database: str, seconds: float) -> None:
    url = served.url
    out.print(
        f"\n[bold]Yika[/] sandbox on [bold]{url}[/] with {database}, up in {seconds:.1f} s", highlight=False, soft_wrap=True
    )
    out.print(
        f"documents {url}/docs   metrics {served.admin_url}/metrics   Ctrl-C stops everything\n",
        highlight=False,
        soft_wrap=True,
    )
    out.print("Try these:", highlight=False)
    body = '{"method":"password","name":"…","idNumber":"…"}'
    start = f"curl -s {url}/v1/identity/verifications -H 'Content-Type: application/json' -d '{body}'"
    for line in (f"curl -s {url}/v1/pages/home -H 'Accept-Language: en'", f"curl -s {url}/sandbox/personas", start):
        out.print(f"  {line}", highlight=False, soft_wrap=True)
    out.print("Put a persona's name and ID number into the last; README.md goes on from there.", highlight=False)
    sys.stdout.flush()
