"""Listening: the public port and the admin port, and how they stop.

True here: a stop first says that it is not ready, then answers everybody who has come so far and takes nobody new, and ends
what is under way within its deadline. Metrics are never on the public port, the documents only in a sandbox.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from handlers.border import border
from handlers.docs import Documents
from handlers.endpoints import Route, endpoint
from handlers.payload import LARGEST
from handlers.routes import ADMIN_ROUTES, ROUTES
from handlers.routing import Routing
from handlers.sandbox import SANDBOX_ROUTES
from handlers.tracing import traced
from handlers.wire import Answering, Runner
from service.app import Process, running
from service.config import Config
from service.sandbox.seeding import NotASandboxError
from service.starting import StartError

_ADMIN_DRAIN_SECONDS: Final = 1.0
_LAST_ANSWER_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Served:
    """A process that listens, and where."""

    process: Process
    url: str
    admin_url: str
    _public: Runner
    _admin: Runner
    _leaving: asyncio.Event

    async def leave(self, seconds: float, stop: asyncio.Event) -> None:
        """Take no new connection, and say with each answer that it is the last on its own.

        Returns when no client is connected any more, after some seconds, or when `stop` is set. For a process whose ports
        another listens on already: it stays ready, for nobody is to look away from them.
        """
        self._leaving.set()
        for runner in (self._public, self._admin):
            for site in runner.sites:
                await site.stop()
        await _see_out(self._public, seconds, stop)


@dataclass(frozen=True, slots=True)
class Handed:
    """Ports that a parent has opened, to listen on once `first` has returned."""

    public: socket.socket
    admin: socket.socket
    first: Callable[[Process], Awaitable[None]]


def api_routes(*, sandbox: bool) -> tuple[Route, ...]:
    """Every row of the public API, without its documents."""
    return (*ROUTES, *SANDBOX_ROUTES) if sandbox else ROUTES


def _answering(process: Process, routes: Iterable[Route], leaving: asyncio.Event) -> Answering:
    """What answers for some rows of the API."""
    services = process.services
    answering = border(
        Routing((route.method, route.path, endpoint(route, services)) for route in routes),
        services.metrics,
        frozenset(services.config.cors_origins),
        lambda: process.readiness.stopping or leaving.is_set(),
    )
    return answering if process.tracing is None else traced(answering, process.tracing)


@asynccontextmanager
async def serving(config: Config, *, seed_first: bool = False, handed: Handed | None = None) -> AsyncIterator[Served]:
    """A process that listens; leaving it finishes what is under way. Raises StartError when a port is taken.

    `seed_first`: a sandbox listens only when its people are there, so that whoever finds the port open can begin.
    `handed`: the ports of one of several workers; by itself a process opens those of the configuration.
    """
    rows = api_routes(sandbox=config.sandbox)
    server = config.public_url or "/"
    # For machines everywhere; for people where people are: in a sandbox, and on the admin port.
    documents = Documents(rows, server=server, page=config.sandbox)
    leaving = asyncio.Event()
    shown = documents.routes if config.sandbox else documents.routes[:1]
    async with running(config, carries=config.relay == "inside") as process:
        if seed_first and process.sandbox is not None:
            try:
                await process.sandbox.seed_if_empty()
            except NotASandboxError as error:
                raise StartError(str(error)) from None
        public = Runner(
            _answering(process, (*rows, *shown), leaving),
            largest=LARGEST,
            head_seconds=config.header_seconds,
            shutdown_timeout=config.drain_seconds,
        )
        admin = Runner(
            _answering(process, (*ADMIN_ROUTES, *documents.routes), leaving),
            largest=LARGEST,
            head_seconds=config.header_seconds,
            shutdown_timeout=_ADMIN_DRAIN_SECONDS,
        )
        try:
            if handed is None:
                port = await _listen(public, config.host, config.port)
                admin_port = await _listen_admin(admin, config)
            else:
                await handed.first(process)
                admin_port = await _listen_on(admin, handed.admin)
                port = await _listen_on(public, handed.public)
            url, admin_url = f"http://{config.host}:{port}", f"http://{config.admin_host}:{admin_port}"
            yield Served(process, url, admin_url, public, admin, leaving)
        finally:
            process.readiness.stopping = True
            await _close_doors(public)
            await _see_out(public, _LAST_ANSWER_SECONDS, asyncio.Event())
            await public.cleanup()
            await admin.cleanup()


@asynccontextmanager
async def carrying(config: Config) -> AsyncIterator[tuple[Process, str]]:
    """A process that carries and sends and answers nobody but its operators: the process, and where its admin port is.

    Leaving it ends what is being sent. Raises StartError when the port is taken.
    """
    async with running(config, carries=True) as process:
        admin = Runner(
            _answering(process, ADMIN_ROUTES, asyncio.Event()),
            largest=LARGEST,
            head_seconds=config.header_seconds,
            shutdown_timeout=_ADMIN_DRAIN_SECONDS,
        )
        try:
            port = await _listen_admin(admin, config)
            yield process, f"http://{config.admin_host}:{port}"
        finally:
            process.readiness.stopping = True
            await admin.cleanup()


async def _listen(runner: Runner, host: str, port: int) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise StartError(f"port {port} on {host} cannot be used: {error.strerror}") from None
    return int(runner.addresses[0][1])


async def _listen_on(runner: Runner, handed: socket.socket) -> int:
    await runner.setup()
    await web.SockSite(runner, handed).start()
    return int(runner.addresses[0][1])


async def _close_doors(runner: Runner) -> None:
    """Stop listening and take everybody who waits: the kernel says yes for us, and would take it back when the port closes."""
    connections = runner.server
    if connections is None:
        return
    # aiohttp shows the addresses of these, not the sockets.
    servers: list[Any] = [site._server for site in runner.sites if site._server is not None]  # noqa: SLF001  as the line above says
    doors = [socket.socket(fileno=os.dup(door.fileno())) for server in servers for door in server.sockets]
    for site in runner.sites:
        await site.stop()
    # The loop lets go of its own socket in its next turn; the last to close it must be we, right after the last was taken.
    await asyncio.sleep(0)
    came: list[socket.socket] = []
    for door in doors:
        door.settimeout(0)
        with door, suppress(BlockingIOError):
            while True:
                came.append(door.accept()[0])
    for client in came:
        client.settimeout(0)
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(connections, client)


async def _see_out(runner: Runner, seconds: float, stop: asyncio.Event) -> None:
    """Wait until no client is connected any more, some seconds, or until `stop` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while runner.server is not None and runner.server.connections and not stop.is_set():  # noqa: ASYNC110  they tell nobody
                await asyncio.sleep(_LOOK_SECONDS)


async def _listen_admin(runner: Runner, config: Config) -> int:
    """The admin port; where none was asked for and the next one is taken, any free one."""
    try:
        return await _listen(runner, config.admin_host, config.admin_port_or_next)
    except StartError:
        if config.admin_port is not None:
            raise
        await web.TCPSite(runner, config.admin_host, 0).start()
        return int(runner.addresses[0][1])
