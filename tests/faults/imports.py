"""What tests of `generate` and `import` share: a database of their own, and the commands that work on it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from faults.workers import ROOT
from pymongo.database import Database as RawDatabase

from service.keyring import load_keyring
from service.regions import SHIPPED, Regions
from service.sandbox.personas import cast, people
from service.vault import Vault

Raw = RawDatabase[dict[str, Any]]
# What is sealed lies there under another nonce every time.
SEALED: Final = ("number", "identificationCode", "idNumber", "holderName", "name", "mobile")
DONE, FAILED, REJECTED, STOPPED = 0, 1, 3, 4
REGIONS: Final = Regions.load_directory(SHIPPED)
PERSONAS: Final = {
    name for person in people(cast(REGIONS)) for name in (person.holder_id, *(card.card_id for card in person.cards))
}


class Place:
    """A database of its own with the environment of the commands that work on it."""

    def __init__(self, raw: Raw, environment: dict[str, str], folder: Path) -> None:
        self.raw = raw
        self.environment = environment
        self.folder = folder

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`python -m service …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env=self.environment | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def has_written(self) -> None:
        """Return as soon as an import has written down how far it is."""
        async with asyncio.timeout(60):
            while not self.raw["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The same, to be disturbed; leads a process group of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service",
            *arguments,
            cwd=ROOT,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    def file(self, name: str, cards: int, *, spoil: int = 0, form: str = "ndjson") -> Path:
        """Generated rows; every so many are spoilt."""
        path = self.folder / name
        made = self.run("generate", "--cards", str(cards), "--format", form, "--output", str(path))
        assert made.returncode == 0, made.stderr
        if spoil:
            lines = path.read_text(encoding="utf-8").splitlines()
            lines[spoil - 1 :: spoil] = [line.replace('"mobile":"1', '"mobile":"2') for line in lines[spoil - 1 :: spoil]]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def everything(self) -> list[dict[str, Any]]:
        """Every imported card and person, opened."""
        ring = load_keyring(self.folder / "data" / "keys" / "keyring.json")
        vault = Vault(lambda: ring)
        found = []
        for collection in ("cards", "holders"):
            for document in self.raw[collection].find({"_id": {"$nin": [*PERSONAS]}}, sort=[("_id", 1)]):
                for field in SEALED:
                    if field in document:
                        document[field] = vault.open(collection, field, document["_id"], document[field])
                if account := document.get("bank", {}).get("account"):
                    document["bank"]["account"] = vault.open("cards", "bank.account", document["_id"], account)
                found.append(document)
        return found


class Places(Protocol):
    """Makes places."""

    def __call__(self, environment: str = "sandbox") -> Place: ...


def children_of(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found: list[int] = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found
