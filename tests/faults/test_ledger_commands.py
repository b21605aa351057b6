"""The command line of the ledger, on a database that a sandbox fills meanwhile."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from api.client import Api
from faults.workers import ROOT, Worker, environment, worker
from pymongo import MongoClient
from pymongo.database import Database as RawDatabase

from service.config import Config
from service.mongo.client import Database
from service.mongo.migrations import migrate

WHOLE, CANNOT, BROKEN = 0, 1, 3


class Commands:
    """Runs `python -m service ledger …`."""

    def __init__(self, told: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
        self._environment = kept | {"COLUMNS": "200", **told}

    async def __call__(self, *arguments: str, status: int = WHOLE) -> str:
        """What it said, on both ways; fails unless it ended so."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "ledger", *arguments),
            cwd=ROOT,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert process.returncode == status, said.decode()
        assert "Traceback" not in said.decode()
        return said.decode()


@pytest.fixture(scope="module")
async def told(config: Config) -> AsyncIterator[Mapping[str, str]]:
    """A sandbox on a database of its own."""
    name = f"{config.mongodb_database}_ledger"
    async with Database(config.mongodb_uri.get_secret_value(), name, deadline_seconds=10, pool=4) as database:
        await migrate(database, print)
        yield environment(config, YIKA_MONGODB_DATABASE=name)
        await database.drop()


@pytest.fixture(scope="module")
async def process(told: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    async with worker(told, tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.fixture
def raw(told: Mapping[str, str]) -> Iterator[RawDatabase[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](told["YIKA_MONGODB_URI"], tz_aware=True) as client:
        yield client[told["YIKA_MONGODB_DATABASE"]]


async def _chained(raw: RawDatabase[dict[str, Any]]) -> None:
    """Everything that was written is in the chain, and a checkpoint was made of some of it."""
    async with asyncio.timeout(30):
        while raw.accesses.count_documents({"chained": None}) or not raw.ledger_checkpoints.count_documents({}):
            await asyncio.sleep(0.05)


async def test_what_the_service_wrote_is_whole_while_it_writes_and_a_cut_is_found_from_an_export(
    process: Worker, told: Mapping[str, str], raw: RawDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    commands, kept = Commands(told), tmp_path / "checkpoints.ndjson"
    async with Api(process.url) as api:
        client = await api.sign_in("sealed", "face")
        assert (await client.activate(await api.details("sealed"))).status == 200
        assert (await client.get("/v1/cards")).status == 200
        # The process asks its own loop; it is whole at every moment.
        assert "the ledger is whole" in await commands("verify")
        await _chained(raw)
        said = await commands("verify")
        assert f"{raw.ledger.count_documents({}):,} links" in said
        assert "1 checkpoints written" in await commands("export", "--output", str(kept))
        (line,) = kept.read_bytes().splitlines()
        assert orjson.loads(line).keys() == {"number", "at", "signed"}
        assert orjson.loads(await commands("export")) == orjson.loads(line)
        assert await commands("export", "--after", "1") == ""
        assert "whole" in await commands("verify", "--against", str(kept))

        head = raw.ledger.find_one(sort=[("seq", -1)])
        assert head is not None
        lane = head["lane"]
        raw.accesses.delete_many({"chained.lane": lane})
        raw.ledger.delete_many({"lane": lane})
        raw.ledger_checkpoints.delete_many({})
        assert "whole" in await commands("verify")
        said = await commands("verify", "--against", str(kept), status=BROKEN)
        assert f"tailCut: lane {lane}, seq 1" in said
        # The process lives on and signs what is left, so that the number is there again; what it says is less.
        assert "whole" not in said
        # A reset begins anew, and what was exported of the one before is another's.
        await api.post("/sandbox/reset")
        await (await api.sign_in("active", "face")).get("/v1/me")
        await _chained(raw)
        assert "the ledger is whole" in await commands("verify")


@pytest.mark.parametrize("content", [b"{}", b"x", b'{"number": 1, "at": "never", "signed": ""}'])
async def test_a_file_that_holds_no_checkpoints_is_refused(told: Mapping[str, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    commands = Commands(told)
    assert "line 1 is no checkpoint" in await commands("verify", "--against", str(tmp_path / "file"), status=CANNOT)
    assert "No such file" in await commands("verify", "--against", str(tmp_path / "none"), status=CANNOT)
