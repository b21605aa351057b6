"""How late the event loop comes: what everybody in a process waits who has done nothing wrong.

True here: a timer a few times a second, and nothing on anybody's way. Never here: an answer to why.
"""

import asyncio
from typing import Final

from handlers.metrics import Metrics

PERIOD_SECONDS: Final = 0.25


async def watch_loop(metrics: Metrics) -> None:
    """Measure until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD_SECONDS
        await asyncio.sleep(PERIOD_SECONDS)
        metrics.lag(max(0.0, loop.time() - due))
