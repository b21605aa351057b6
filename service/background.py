"""What a process does besides answering.

True here: every task has an owner who ends it; none should end by itself, and one that does is said at once, for the rest of
the process lives on. Never here: a decision.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from service.errors import Refusal
from service.keyring import RELOAD_SECONDS, KeyringError, Keys
from service.readiness import Readiness
from service.relay import Relay
from service.sandbox.sandbox import Sandbox
from service.sandbox.seeding import NotASandboxError
from service.sequencing import Sequencer

_FIT_LOOK_SECONDS: Final = 0.2

_log = structlog.get_logger("background")


@asynccontextmanager
async def background(works: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run these side by side, each under its name, until the end of the block."""
    tasks = [asyncio.get_running_loop().create_task(work, name=name) for name, work in works.items()]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background_failed", task=task.get_name(), error=type(error).__name__)


async def follow_keyring(keys: Keys) -> None:
    """Look at the keyring file now and then, off the loop; one that cannot be read changes nothing and is reported."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        try:
            if await asyncio.to_thread(keys.reload):
                _log.info("keyring_reloaded", signing_keys=len(keys.ring.signing_keys))
        except KeyringError:
            _log.error("keyring_unreadable")


async def carry_when_fit(readiness: Readiness, carrier: Relay | Sequencer) -> None:
    """Carry from the moment on at which this process has once been fit for traffic.

    With another keyring it would find no message that it can read, and on a database that lacks steps it would look in vain.
    """
    while True:
        try:
            await readiness()
        except Refusal:
            await asyncio.sleep(_FIT_LOOK_SECONDS)
        else:
            break
    await carrier.run()


async def keep_sandbox(sandbox: Sandbox, peopled: Callable[[], None]) -> None:
    """Put the invented people there as soon as there is a database, say so, then follow the clock that others move."""
    while True:
        try:
            await sandbox.seed_if_empty()
        except Refusal:
            await asyncio.sleep(1)
        except NotASandboxError:
            # Never ready, and every reset is refused.
            _log.error("not_a_sandbox")
            return
        else:
            break
    peopled()
    await sandbox.follow_clock()
