"""Listening: the public port and the admin port, and how they stop.

True here: a stop first says that it is not ready, then takes no new requests, and ends what is under way within its
deadline. Metrics are never on the public port, the documents only in a sandbox.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from handlers.border import border
from handlers.docs import Documents
from handlers.endpoints import Route, endpoint
from handlers.payload import LARGEST
from handlers.routes import ADMIN_ROUTES, ROUTES
from handlers.sandbox import SANDBOX, SANDBOX_ROUTES
from handlers.services import SERVICES
from handlers.wire import Runner
from service.app import Process, StartError, running
from service.config import Config
from service.sandbox.sandbox import NotASandboxError

_ADMIN_DRAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Served:
    """A process that listens, and where."""

    process: Process
    url: str
    admin_url: str


def api_routes(*, sandbox: bool) -> tuple[Route, ...]:
    """Every row of the public API, without its documents."""
    return (*ROUTES, *SANDBOX_ROUTES) if sandbox else ROUTES


def _application(process: Process, routes: Iterable[Route]) -> web.Application:
    """An aiohttp application that serves some rows of the API."""
    services = process.services
    origins = frozenset(services.config.cors_origins)
    app = web.Application(
        middlewares=[border(services.metrics, origins, lambda: process.readiness.stopping)], client_max_size=LARGEST
    )
    app[SERVICES] = services
    if process.sandbox is not None:
        app[SANDBOX] = process.sandbox
    for route in routes:
        app.router.add_route(route.method, route.path, endpoint(route))
    return app


@asynccontextmanager
async def serving(config: Config, *, seed_first: bool = False) -> AsyncIterator[Served]:
    """A process that listens; leaving it finishes what is under way. Raises StartError when a port is taken.

    `seed_first`: a sandbox listens only when its people are there, so that whoever finds the port open can begin.
    """
    rows = api_routes(sandbox=config.sandbox)
    server = config.public_url or "/"
    # For machines everywhere; for people where people are: in a sandbox, and on the admin port.
    documents = Documents(rows, server=server, page=config.sandbox)
    shown = documents.routes if config.sandbox else documents.routes[:1]
    async with running(config) as process:
        if seed_first and process.sandbox is not None:
            try:
                await process.sandbox.seed_if_empty()
            except NotASandboxError as error:
                raise StartError(str(error)) from None
        public = Runner(
            _application(process, (*rows, *shown)),
            head_seconds=config.header_seconds,
            shutdown_timeout=config.drain_seconds,
        )
        admin = Runner(
            _application(process, (*ADMIN_ROUTES, *documents.routes)),
            head_seconds=config.header_seconds,
            shutdown_timeout=_ADMIN_DRAIN_SECONDS,
        )
        try:
            port = await _listen(public, config.host, config.port)
            admin_port = await _listen_admin(admin, config)
            yield Served(process, f"http://{config.host}:{port}", f"http://{config.admin_host}:{admin_port}")
        finally:
            process.readiness.stopping = True
            await public.cleanup()
            await admin.cleanup()


async def _listen(runner: Runner, host: str, port: int) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise StartError(f"port {port} on {host} cannot be used: {error.strerror}") from None
    return int(runner.addresses[0][1])


async def _listen_admin(runner: Runner, config: Config) -> int:
    """The admin port; where none was asked for and the next one is taken, any free one."""
    try:
        return await _listen(runner, config.admin_host, config.admin_port_or_next)
    except StartError:
        if config.admin_port is not None:
            raise
        await web.TCPSite(runner, config.admin_host, 0).start()
        return int(runner.addresses[0][1])
