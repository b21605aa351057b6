"""The servers that are measured, and how each is started.

True here: one at a time runs, on the server's core, started anew for every turn, with nothing of another's. Yika is the
product itself: `python -m service serve` with every middleware, metric and log line. Never here: a setting that makes a
peer slower than its users have it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.ground import AUDIENCE, DATABASE, ISSUER, Ground
from bench.machine import FASTAPI_PYTHON, FASTIFY, GO_PEER, ROOT
from bench.programs import Running, await_answer, found, free_port, program

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server. `whole_path`: it verifies the token, checks the session and reads the card."""

    name: str
    title: str
    whole_path: bool
    command: Callable[[int], Sequence[str]]
    environment: Callable[[Ground, int], Environment]
    ready_path: str = "/v1/cards/none/balance"
    ready_status: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers."""

    server: Server
    running: Running
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(server: Server, where: Ground) -> Iterator[Served]:
    """Start a server and wait until it answers; end it at the end of the block."""
    port = free_port()
    environment = server.environment(where, port)
    with program(server.command(port), {where.cores.server}, where.log(server.name), environment) as running:
        await_answer(running, port, server.ready_path, status=server.ready_status)
        yield Served(server, running, port)


def yika_environment(where: Ground, port: int) -> Environment:
    """Yika as it ships, but for what a bench cannot do without."""
    return {
        **where.yika_environment,
        "YIKA_PORT": str(port),
        "YIKA_ADMIN_PORT": "0",
        "YIKA_NOTICE_SECONDS": "0",
        # No person asks sixty times a minute, but two thousand people who ask ten thousand times a second do.
        "YIKA_QUERIES_PER_MINUTE": "1000000000",
    }


def _peer_environment(where: Ground, port: int) -> Environment:
    return {
        "PORT": str(port),
        "MONGODB_URI": where.peers_uri,
        "MONGODB_DATABASE": DATABASE,
        "JWKS_FILE": str(where.jwks),
        "ISSUER": ISSUER,
        "AUDIENCE": AUDIENCE,
        "NODE_ENV": "production",
        "PYTHONPATH": str(ROOT),
    }


def _uvicorn(port: int) -> Sequence[str]:
    app = ["--app-dir", str(ROOT / "bench" / "peers" / "fastapi_motor"), "app:app"]
    speed = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [str(FASTAPI_PYTHON), "-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(port), *speed]


YIKA: Final = Server(
    "yika",
    "Yika",
    whole_path=True,
    command=lambda _: [sys.executable, "-m", "service", "serve"],
    environment=yika_environment,
    ready_path="/readyz",
    ready_status=200,
)
FASTAPI: Final = Server("fastapi", "FastAPI", whole_path=True, command=_uvicorn, environment=_peer_environment)
FASTIFY_SERVER: Final = Server(
    "fastify",
    "Node fastify",
    whole_path=True,
    command=lambda _: [found("node"), str(FASTIFY / "server.js")],
    environment=_peer_environment,
)
GO: Final = Server("go", "Go net/http", whole_path=True, command=lambda _: [str(GO_PEER)], environment=_peer_environment)
FIND: Final = Server(
    "find",
    "aiohttp + motor, one find",
    whole_path=False,
    command=lambda _: [sys.executable, "-m", "bench.floors", "find"],
    environment=_peer_environment,
)
CONSTANT: Final = Server(
    "constant",
    "aiohttp, constant answer",
    whole_path=False,
    command=lambda _: [sys.executable, "-m", "bench.floors", "constant"],
    environment=_peer_environment,
)

SERVERS: Final[Mapping[str, Server]] = {s.name: s for s in (YIKA, FASTAPI, FASTIFY_SERVER, GO, FIND, CONSTANT)}
PEERS: Final = ("fastapi", "fastify", "go")
