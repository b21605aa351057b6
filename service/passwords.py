"""Passwords and PINs: argon2id over a peppered secret, in two threads of their own.

True here: hashing never runs on the event loop and never takes more than two processors; somebody without a password costs
exactly as much as somebody with one. Never here: a password, or its hash, in a log.
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from service.vault import Vault

# OWASP's floor for argon2id: 19 MiB, two passes, one lane.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class Passwords:
    """Hashing and verifying. `close` ends its threads."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="argon2")
        self._nobody = self._hash(secrets.token_hex(16))

    def _peppered(self, password: str) -> bytes:
        return self._vault.mac("pepper", password)

    def _hash(self, password: str) -> str:
        return _HASHER.hash(self._peppered(password))

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return _HASHER.verify(stored, self._peppered(password))
        except (Argon2Error, InvalidHashError):
            return False

    async def hash(self, password: str) -> str:
        """The form that may be stored."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether this is the password; for nobody's, False after the same work."""
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._threads, self._verify, stored or self._nobody, password)
        return right and stored is not None

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
