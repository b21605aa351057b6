import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from api.client import Api, Reply
from bson import encode
from faults.workers import ROOT, Wire, Worker, answers, environment, worker

from service.config import Config
from service.keyring import load_keyring, new_keyring, save_keyring
from service.mongo.client import Database

# `make soak` turns this up to what the promises name.
ROUNDS = int(os.environ.get("YIKA_SOAK_ROUNDS", "4"))


def _environment(config: Config, **changes: str) -> dict[str, str]:
    # Two hundred at once take a slow database longer than a resident would wait.
    return environment(config, **{"YIKA_REQUEST_SECONDS": "30"} | changes)


@pytest.fixture(scope="module")
async def two(config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Worker]]:
    """Two processes on one database."""
    del database
    logs = tmp_path_factory.mktemp("logs")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(worker(_environment(config), logs / f"{i}.log")) for i in range(2)]


@pytest.fixture
async def pair(two: list[Worker]) -> AsyncIterator[tuple[Api, Api]]:
    """A client of each of the two, in a sandbox that is as new."""
    async with Api(two[0].url) as first, Api(two[1].url) as second:
        await first.post("/sandbox/reset")
        # The other process follows the clock within a quarter of a second.
        await asyncio.sleep(0.6)
        yield first, second


async def test_what_one_process_revokes_the_other_refuses_at_once(pair: tuple[Api, Api]) -> None:
    here, there = pair
    for _ in range(3):
        tokens = await here.tokens("active", "face")
        assert (await there.as_(tokens["accessToken"]).get("/v1/me")).status == 200
        await here.as_(tokens["accessToken"]).post("/v1/sessions/logout")
        assert (await there.as_(tokens["accessToken"]).get("/v1/me")).code == "token_revoked"


@pytest.mark.parametrize("one_key", [True, False])
async def test_two_hundred_activations_over_two_processes_are_one(pair: tuple[Api, Api], *, one_key: bool) -> None:
    first, second = pair
    for round_ in range(ROUNDS):
        await first.post("/sandbox/reset")
        person = await first.persona("sealed")
        token = (await first.tokens("sealed"))["accessToken"]
        details = await first.details("sealed")
        clients = [first.as_(token), second.as_(token)]
        replies = await asyncio.gather(
            *(clients[n % 2].activate(details, f"r{round_}" if one_key else f"r{round_}-{n}") for n in range(200))
        )
        assert {reply.status for reply in replies} <= {200, 409}
        good = [reply.json for reply in replies if reply.status == 200]
        assert len({answer["activationId"] for answer in good}) == 1
        if not one_key:
            assert Counter(answer["result"] for answer in good)["activated"] == 1
        history = (await clients[1].get(f"/v1/cards/{good[0]['cardId']}/history")).json["items"]
        assert len(history) == 1
        sent = [m["template"] for m in await second.messages(person["mobile"])]
        assert sent.count("card_activated") == 1


async def test_a_clock_that_is_moved_moves_everywhere(pair: tuple[Api, Api]) -> None:
    here, there = pair
    tokens = await here.tokens("active")
    await here.advance(700)
    await asyncio.sleep(0.6)
    assert (await there.as_(tokens["accessToken"]).get("/v1/me")).code == "token_expired"


async def test_keys_rotate_without_a_failed_request(pair: tuple[Api, Api], config: Config) -> None:
    first, second = pair
    tokens = await first.tokens("active", "face")
    receipt = (await (await first.sign_in("sealed")).activate(await first.details("sealed"))).json["receipt"]
    statuses: list[int] = []
    over = asyncio.Event()

    async def use() -> None:
        nonlocal tokens
        while not over.is_set():
            for api in pair:
                client = api.as_(tokens["accessToken"])
                statuses.append((await client.get("/v1/sessions")).status)
            refreshed = await first.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})
            statuses.append(refreshed.status)
            tokens = refreshed.json
            await asyncio.sleep(0.02)

    using = asyncio.create_task(use())
    old = {key.kid for key in load_keyring(config.keyring_path).signing_keys}
    for fields in ([], ["--fields"]):
        command = [sys.executable, "-m", "service", "keys", "rotate", "--lead", "4", *fields]
        environment = os.environ | {"YIKA_DATA_DIR": str(config.data_dir)}
        done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    await asyncio.sleep(8)
    over.set()
    await using
    assert set(statuses) == {200}
    ring = load_keyring(config.keyring_path)
    assert len(ring.field_keys) == 2
    assert ring.signer(time.time()).kid not in old
    save_keyring(config.keyring_path, ring.retire(min(old), time.time()))
    await asyncio.sleep(3)
    assert (await second.post("/v1/receipts/verify", {"receipt": receipt})).json["valid"] is True
    me = await (await second.sign_in("sealed2")).get("/v1/me")
    assert me.status == 200


async def test_a_key_whose_process_was_killed_is_usable_again(config: Config, pair: tuple[Api, Api], tmp_path: Path) -> None:
    survivor, _ = pair
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    token = (await survivor.tokens("sealed"))["accessToken"]
    details = await survivor.details("sealed")
    async with Wire(host.hostname, host.port) as wire:
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with worker(_environment(config, YIKA_MONGODB_URI=uri), tmp_path / "log") as doomed, Api(doomed.url) as api:
            # The claim is made; then the process hears no more of its database and is killed before it knows what came of it.
            wire.stall_after(WRITES["a place is held"])
            asking = asyncio.create_task(
                api.as_(token).send(
                    "POST",
                    "/v1/activations",
                    data=json.dumps(details).encode(),
                    headers={"Content-Type": "application/json", "Idempotency-Key": "doomed"},
                    checked=False,
                )
            )
            await wire.stalled()
            await doomed.end(signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await asking
    begun = time.monotonic()
    reply = await survivor.as_(token).activate(details, "doomed")
    while reply.status == 409 and time.monotonic() - begun < 30:
        assert reply.code == "idempotency_in_flight"
        await asyncio.sleep(1)
        reply = await survivor.as_(token).activate(details, "doomed")
    assert (reply.status, reply.json["result"]) == (200, "activated")
    card_id = reply.json["cardId"]
    assert len((await survivor.as_(token).get(f"/v1/cards/{card_id}/history")).json["items"]) == 1


def _command(name: str, collection: str) -> bytes:
    """How a command on a collection begins on the wire."""
    text = collection.encode() + b"\0"
    return name.encode() + b"\0" + len(text).to_bytes(4, "little") + text


WRITES = {
    "the key is claimed": _command("insert", "idempotency"),
    "a place is held": _command("update", "limits"),
    "the card is activated": _command("update", "cards"),
    "the place is given back": encode({"$pull": {"places": {"name": bytes(12)}}}).partition(b"name")[0][4:],
    "the answer is kept": _command("update", "idempotency"),
}


@pytest.mark.parametrize("lost", WRITES)
async def test_an_activation_whose_answer_was_lost_converges(
    config: Config, pair: tuple[Api, Api], tmp_path: Path, lost: str
) -> None:
    survivor, _ = pair
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    token = (await survivor.tokens("sealed"))["accessToken"]
    details = await survivor.details("sealed")
    async with Wire(host.hostname, host.port) as wire:
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with worker(_environment(config, YIKA_MONGODB_URI=uri), tmp_path / "log") as other, Api(other.url) as api:
            client = api.as_(token)
            wire.lose_answer_to(WRITES[lost])
            replies: list[Reply] = []
            begun = time.monotonic()
            while not replies or (replies[-1].status != 200 and time.monotonic() - begun < 40):
                replies.append(await client.activate(details, "lost"))
                await asyncio.sleep(0.5)
            assert wire.lost == 1
    assert {reply.status for reply in replies[:-1]} <= {409, 503}
    assert replies[-1].json["result"] == "activated"
    history = (await survivor.as_(token).get(f"/v1/cards/{replies[-1].json['cardId']}/history")).json["items"]
    assert len(history) == 1


@pytest.mark.usefixtures("database")
async def test_without_its_database_a_process_lives_and_says_it_is_not_ready(config: Config, tmp_path: Path) -> None:
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    async with Wire(host.hostname, host.port) as wire:
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        environment = _environment(config, YIKA_MONGODB_URI=uri, YIKA_REQUEST_SECONDS="4")
        async with worker(environment, tmp_path / "log") as lonely, Api(lonely.url) as api:
            token = (await api.tokens("active", "face"))["accessToken"]
            client = api.as_(token)
            assert await answers(lonely.url, "/readyz") == 200
            wire.cut()
            begun = time.monotonic()
            replies = await asyncio.gather(*(client.get("/v1/me") for _ in range(20)))
            assert {(reply.status, reply.code) for reply in replies} == {(503, "unavailable")}
            assert all(int(reply.headers["Retry-After"]) > 0 for reply in replies)
            assert time.monotonic() - begun < 5
            assert await answers(lonely.url, "/livez") == 200
            assert await answers(lonely.url, "/readyz") == 503
            wire.mend()
            begun = time.monotonic()
            while (await client.get("/v1/me")).status != 200:
                await asyncio.sleep(0.2)
            assert time.monotonic() - begun < 10
            assert await answers(lonely.url, "/readyz") == 200


# It looks at the clock.
@pytest.mark.alone
async def test_a_process_starts_without_its_database(config: Config, tmp_path: Path) -> None:
    environment = _environment(config, YIKA_MONGODB_URI="mongodb://127.0.0.1:1/?directConnection=true")
    begun = time.monotonic()
    async with worker(environment, tmp_path / "log", ready=False) as lonely:
        assert await answers(lonely.url, "/livez") == 200
        assert time.monotonic() - begun < 5
        assert await answers(lonely.url, "/readyz") == 503


async def test_a_stop_under_load_fails_no_request(config: Config, pair: tuple[Api, Api], tmp_path: Path) -> None:
    token = (await pair[0].tokens("active", "face"))["accessToken"]
    for round_ in range(ROUNDS):
        async with worker(_environment(config, YIKA_NOTICE_SECONDS="0.3"), tmp_path / f"log{round_}") as stopping:
            failed: list[str] = []
            served = 0
            stopped = asyncio.Event()

            async def load(url: str = stopping.url, failed: list[str] = failed, stopped: asyncio.Event = stopped) -> None:
                nonlocal served
                async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
                    while not stopped.is_set():
                        try:
                            async with session.get(f"{url}/v1/sessions") as response:
                                await response.read()
                                served += 1
                                if response.status != 200:
                                    failed.append(str(response.status))
                        except aiohttp.ClientConnectorError:
                            return
                        except aiohttp.ClientError as error:
                            failed.append(type(error).__name__)

            loads = [asyncio.create_task(load()) for _ in range(16)]
            await asyncio.sleep(0.5)
            stopping.signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
            assert await answers(stopping.url, "/readyz") in {503, 0}
            begun = time.monotonic()
            assert await stopping.end() == 0
            assert time.monotonic() - begun < 30
            stopped.set()
            await asyncio.gather(*loads)
            assert served > 50
            assert failed == []


def _serve(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")} | environment
    command = [sys.executable, "-m", "service", *(arguments or ("serve",))]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({}, "YIKA_MONGODB_URI"),
        ({"YIKA_PORT": "99999"}, "YIKA_PORT"),
        ({"YIKA_ENVIRONMENT": "staging"}, "YIKA_ENVIRONMENT"),
        ({"YIKA_CORS_ORIGINS": "*"}, "YIKA_CORS_ORIGINS"),
        ({"YIKA_MONGODB_URI": "mongodb://secret-name:secret-word@h/"}, "YIKA_ISSUER"),
        (
            {"YIKA_MONGODB_URI": "mongodb://secret-name:secret-word@h/", "YIKA_ISSUER": "https://hr.example"},
            "YIKA_REGIONS_DIR",
        ),
    ],
)
def test_a_configuration_that_is_unsafe_stops_the_start(environment: dict[str, str], word: str) -> None:
    done = _serve(environment)
    assert done.returncode == 1
    assert word in done.stderr
    assert "secret-word" not in done.stderr
    assert "Traceback" not in done.stderr


def test_production_refuses_sandbox_secrets_and_invented_regions(tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.json"
    production = {
        "YIKA_MONGODB_URI": "mongodb://127.0.0.1:1/",
        "YIKA_ISSUER": "https://hr.example",
        "YIKA_REGIONS_DIR": str(ROOT / "service" / "regions"),
        "YIKA_KEYRING": str(keyring),
    }
    assert "no keyring" in _serve(production).stderr
    save_keyring(keyring, new_keyring("sandbox"))
    assert "the keyring is for sandbox" in _serve(production).stderr
    save_keyring(keyring, new_keyring("production"))
    assert "invented" in _serve(production).stderr
    keyring.chmod(0o644)
    assert "chmod 600" in _serve(production).stderr
    done = _serve({"YIKA_ENVIRONMENT": "sandbox", "YIKA_MONGODB_URI": "mongodb://127.0.0.1:1/", "YIKA_KEYRING": str(keyring)})
    assert done.returncode == 1


async def test_a_sandbox_with_a_new_keyring_on_an_old_database_has_its_people_again(config: Config, tmp_path: Path) -> None:
    database = {"YIKA_MONGODB_DATABASE": f"{config.mongodb_database}_keys"}
    for number in range(2):
        data_dir = tmp_path / f"data{number}"
        save_keyring(data_dir / "keys" / "keyring.json", new_keyring("sandbox"))
        environment = _environment(config, **database, YIKA_DATA_DIR=str(data_dir))
        assert _serve(environment, "migrate").returncode == 0
        async with worker(environment, tmp_path / f"log{number}") as one, Api(one.url) as api:
            client = await api.sign_in("sealed")
            assert (await client.activate(await api.details("sealed"))).json["result"] == "activated"
    async with Database(
        config.mongodb_uri.get_secret_value(), database["YIKA_MONGODB_DATABASE"], deadline_seconds=10, pool=2
    ) as old:
        await old.drop()
