"""YIKA_RELAY=outside: `serve` answers and carries nothing, `worker` carries and answers nobody."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from api.client import Api
from faults.workers import ROOT, Worker, answers, carrier, environment, worker

from service.config import Config
from service.mongo.client import Database


@pytest.fixture(scope="module")
def told(config: Config, database: Database) -> Mapping[str, str]:
    """A sandbox of its own, whose relay is outside."""
    del database
    return environment(config, YIKA_MONGODB_DATABASE=f"{config.mongodb_database}_outside", YIKA_RELAY="outside")


@pytest.fixture(scope="module")
async def serves(told: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A process that answers and carries nothing."""
    migration = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "migrate"), cwd=ROOT, env=dict(told), stdout=asyncio.subprocess.DEVNULL
    )
    assert await migration.wait() == 0
    async with worker(told, tmp_path_factory.mktemp("logs") / "serves.log") as made:
        yield made


@pytest.fixture
async def client(serves: Worker) -> AsyncIterator[Api]:
    async with Api(serves.url) as made:
        assert (await made.post("/sandbox/reset", {})).status == 200
        yield made


async def test_what_nobody_carries_waits_and_goes_out_when_a_worker_comes(
    client: Api, told: Mapping[str, str], tmp_path: Path
) -> None:
    mobile = (await client.persona("sealed"))["mobile"]
    token = (await client.tokens("sealed", "face"))["accessToken"]
    details = await client.details("sealed")
    assert (await client.as_(token).activate(details, "outside-1")).json["result"] == "activated"
    # It is looked for as long as a gateway may take, and nobody brings it.
    begun = asyncio.get_running_loop().time()
    assert "card_activated" not in await _templates(client, mobile)
    assert asyncio.get_running_loop().time() - begun > 3
    async with carrier(told, tmp_path / "carries.log"):
        # Asked while the other process is at it, the sandbox waits for what it does.
        assert await _templates(client, mobile) >= {"card_activated"}
        await client.start("active")
        assert await _templates(client, (await client.persona("active"))["mobile"]) >= {"verification_code"}


async def test_a_worker_has_an_admin_port_and_no_other_and_stops_when_told(told: Mapping[str, str], tmp_path: Path) -> None:
    async with carrier(told, tmp_path / "one.log") as one, carrier(told, tmp_path / "two.log") as two:
        for made in (one, two):
            assert await answers(made.url, "/livez") == 200
            assert await answers(made.url, "/metrics") == 200
            assert await answers(made.url, "/v1/pages/home") == 404
            assert await answers(made.url, "/sandbox/personas") == 404
        begun = asyncio.get_running_loop().time()
        assert await one.end(signal.SIGTERM) == 0
        assert asyncio.get_running_loop().time() - begun < 10
        assert await answers(two.url, "/readyz") == 200
        assert await two.end(signal.SIGINT) == 0
    assert "Traceback" not in (tmp_path / "one.log").read_text() + (tmp_path / "two.log").read_text()


async def test_a_stop_lets_a_worker_finish_what_it_is_sending(client: Api, told: Mapping[str, str], tmp_path: Path) -> None:
    mobile = (await client.persona("active"))["mobile"]
    assert (await client.post("/sandbox/faults", {"gateway": "sms", "fault": "slow", "times": 1})).status == 200
    async with carrier(told, tmp_path / "carries.log") as made:
        await client.start("active")
        # It takes three seconds, and it is on its way after one at the latest.
        await asyncio.sleep(2)
        assert await made.end(signal.SIGTERM) == 0
    assert "verification_code" in await _templates(client, mobile)


async def test_a_worker_on_a_database_without_its_migrations_carries_nothing_and_is_not_ready(
    told: Mapping[str, str], tmp_path: Path
) -> None:
    empty = {**told, "YIKA_MONGODB_DATABASE": told["YIKA_MONGODB_DATABASE"] + "_empty"}
    env = {"YIKA_ADMIN_PORT": "0", "PATH": "", **empty}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "worker"), cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            words = (await process.stdout.readline()).decode().split()
        assert words[:2] == ["yika", "carries,"]
        async with aiohttp.ClientSession() as session, session.get(f"{words[3]}/readyz") as response:
            assert response.status == 503
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    del tmp_path


async def _templates(client: Api, mobile: str) -> set[str]:
    return {message["template"] for message in await client.messages(mobile)}
