"""The command line of processes that answer: `python -m service serve`.

True here: told to stop, a process says first that it is not ready, then finishes what is under way; one of several listens only
once it can do what the one before it does. Never here: what the other commands need, for this loads the whole service.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import typer

from service.app import Process
from service.collector import spare_the_collector
from service.config import Config
from service.errors import Refusal
from service.logs import set_up_logs
from service.places import PlaceError, borrowed, take_places, url
from service.server import Handed, Served, serving
from service.starting import StartError
from service.terminal import configuration, out, run, stop
from service.worker_channel import WorkerSide
from service.workers import Workers, WorkersError

_FOLLOW_SECONDS: Final = 30.0


async def serve_until_told(config: Config, announce: Callable[[Served], None], *, seed_first: bool = False) -> None:
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


def serve() -> None:
    """Serve the API with the configuration from the environment."""
    config = configuration()
    if config.workers > 1:
        _serve_by_several(config)
        return

    def announce(served: Served) -> None:
        out.print(f"yika serves {served.url}, admin {served.admin_url}", highlight=False, soft_wrap=True)

    run(serve_until_told(config, announce))


def _serve_by_several(config: Config) -> None:
    set_up_logs(config.log_level)
    try:
        places = take_places(config)
    except PlaceError as error:
        stop(error)
    shown = url(places[0].public, config.host)
    admin = " ".join(url(place.admin, config.admin_host) for place in places)

    def announce() -> None:
        out.print(f"yika serves {shown}, admin {admin}", highlight=False, soft_wrap=True)

    try:
        run(Workers(config, places, ("-m", "service", "serve-one")).run(announce))
    except WorkersError as error:
        if str(error):
            stop(error)
        raise typer.Exit(1) from None


def serve_one(public: int, admin: int, channel: int, *, successor: bool = False) -> None:
    """One of several; `serve` starts it with the numbers of its sockets."""
    config = configuration()
    side = WorkerSide(borrowed(channel))

    async def first(process: Process) -> None:
        if successor:
            await _fit_to_follow(process, side.stop)

    run(_work(config, side, Handed(borrowed(public), borrowed(admin), first)))


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
