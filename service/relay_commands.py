"""The command line of a process that only carries and sends: `python -m service worker`.

True here: it starts as `serve` does and stops within ENDING_SECONDS of the relay and what its admin port takes; any number of
them may run. Never here: a public port.
"""

import asyncio
import signal

from service.collector import spare_the_collector
from service.config import Config
from service.logs import set_up_logs
from service.server import carrying
from service.terminal import configuration, out, run


def worker() -> None:
    """Carry what happened to who should hear of it, and send messages; for YIKA_RELAY=outside. Any number may run."""
    run(_carry(configuration()))


async def _carry(config: Config) -> None:
    """Carry until told to stop, then finish what is being sent."""
    set_up_logs(config.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, stop.set)
    async with carrying(config) as (_, admin_url):
        spare_the_collector()
        out.print(f"yika carries, admin {admin_url}", highlight=False, soft_wrap=True)
        await stop.wait()
