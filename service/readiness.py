"""Whether a process should get traffic.

True here: whatever is asked of the database has a deadline; what cannot change back is asked until it is so, and no longer.
Never here: a reason that names a secret or an address.
"""

import asyncio
from typing import Final

import structlog

from service.errors import Refusal
from service.mongo.client import Database
from service.mongo.keyring import holds_the_keyring_of
from service.mongo.migrations import MigrationError, pending
from service.vault import Vault

_log = structlog.get_logger("readiness")
_READY_SECONDS: Final = 2.0


class Readiness:
    """Whether this process should get traffic."""

    def __init__(self, database: Database, vault: Vault, *, sandbox: bool) -> None:
        self._database = database
        self._vault = vault
        self._fit = False
        # A sandbox is ready when its people are there; they are put there anew under a new keyring.
        self._sandbox = sandbox
        self._peopled = not sandbox
        self.stopping = False

    def people(self) -> None:
        """The people of the sandbox are there."""
        self._peopled = True

    async def __call__(self) -> None:
        """Refuses with `unavailable` and the reason: stopping, database, seeding, migration, or another keyring's data."""
        if self.stopping:
            raise _not_ready("stopping")
        try:
            async with asyncio.timeout(_READY_SECONDS):
                reason = await self._unfit()
        except TimeoutError:
            raise _not_ready("database") from None
        if reason:
            raise _not_ready(reason)

    async def _unfit(self) -> str | None:
        if not self._peopled:
            return "seeding"
        if self._fit:
            await self._database.ping()
            return None
        try:
            if await pending(self._database):
                return "migration"
        except MigrationError:
            # A newer version was here: what it wrote may be beyond this one.
            return "migration"
        if not self._sandbox and not await holds_the_keyring_of(self._database, self._vault):
            _log.error("another_keyring")
            return "keyring"
        self._fit = True
        return None


def _not_ready(reason: str) -> Refusal:
    return Refusal("unavailable", {"reason": reason}, retry_after=2)
