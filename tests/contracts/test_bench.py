"""What the bench says can be believed: its arithmetic, and that a server which does less work is not measured."""

import asyncio
import os
import re
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pymongo import MongoClient

from bench.bars import Bar, bars_of, exit_status, is_whole, medians
from bench.chart import chart
from bench.checks import Answers, CheckError, check
from bench.ground import Ground
from bench.machine import ROOT, Cores
from bench.people import Person, generate_command, import_command, people_of
from bench.report import is_quiet
from bench.servers import SERVERS
from service.config import Config
from service.keyring import load_keyring
from service.server import Served

TITLES = {name: server.title for name, server in SERVERS.items()}
MACHINE = {"cpu": "a <cpu> & more", "cores_used": "one core for the server"}


def _load(connections: int, **changed: float) -> dict[str, float]:
    usual = {"rate": 1000.0, "p50": 1000.0, "p99": 2000.0, "cpu_per_request": 100.0, "others_share": 0.0}
    return {"connections": connections, **usual, **changed}


def _turn(server: str, *loads: dict[str, float]) -> dict[str, Any]:
    return {"server": server, "loads": loads, "resident_mib": 90.0}


def _results(**own: float) -> dict[str, Any]:
    """Five rounds in which all are alike but Yika; other parts just reach their bars."""
    names = [name for name in SERVERS if name != "yika"]
    turns = [_turn("yika", _load(64, **own), _load(1, **own)), *(_turn(name, _load(64), _load(1)) for name in names)]
    return {
        "machine": MACHINE,
        "balance": {"rounds": [turns] * 5},
        "activation": {"rounds": [{"yika_rate": 85.0, "bare_rate": 100.0, "yika": _load(64), "yika_resident_mib": 95.0}]},
        "import": {
            "rounds": [{"import_rate": 50.0, "bare_rate": 100.0, "resident_tenth_mib": 100.0, "resident_end_mib": 110.0}]
        },
        "worker": {"start_seconds": [1.5, 1.4, 9.0]},
    }


FAST = {"rate": 10_000.0, "p50": 800.0, "p99": 1000.0, "cpu_per_request": 250.0}


def test_a_server_is_judged_by_the_middle_of_its_rounds() -> None:
    rates = (900.0, 100.0, 5000.0)
    rounds = [[_turn("go", _load(64, rate=rate, p99=rate))] for rate in rates]
    assert medians({"rounds": rounds})["go", 64].rate == 900
    assert medians({"rounds": rounds})["go", 64].p99 == 900


def test_bars_that_are_just_reached_are_reached() -> None:
    bars = bars_of(_results(**FAST))
    assert [bar.value for bar in bars if bar.is_reached is not True] == []
    assert len(bars) == 12
    assert exit_status(bars) == 0
    assert is_whole(bars)


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({"rate": 9_990.0}, ["rate / FastAPI's, 64 connections"]),
        ({"rate": 2_990.0}, [f"rate / {peer}'s, 64 connections" for peer in ("FastAPI", "Go", "fastify")]),
        ({"cpu_per_request": 251.0}, ["CPU a request / the constant answer's, 64 connections"]),
        ({"p99": 1001.0}, ["p99 / the best peer's, 64 connections"]),
        ({"p50": 801.0}, ["p50 / FastAPI's, 1 connection"]),
        ({"p50": 1301.0}, ["p50 / FastAPI's, 1 connection", "p50 / Go's, 1 connection"]),
    ],
)
def test_a_bar_that_is_missed_fails_the_run(worse: dict[str, float], missed: list[str]) -> None:
    bars = bars_of(_results(**(FAST | worse)))
    assert [bar.of for bar in bars if bar.is_reached is False] == missed
    assert exit_status(bars) == 1


@pytest.mark.parametrize(
    ("part", "worse"),
    [
        ("activation", {"rounds": [{"yika_rate": 84.0, "bare_rate": 100.0, "yika_resident_mib": 95.0}]}),
        ("worker", {"start_seconds": [1.6]}),
        (
            "import",
            {"rounds": [{"import_rate": 49.0, "bare_rate": 100.0, "resident_tenth_mib": 9.0, "resident_end_mib": 9.0}]},
        ),
        (
            "import",
            {"rounds": [{"import_rate": 60.0, "bare_rate": 100.0, "resident_tenth_mib": 100.0, "resident_end_mib": 111.0}]},
        ),
        ("worker", {"start_seconds": [1.51, 1.51, 1.0]}),
    ],
)
def test_each_part_can_fail_the_run(part: str, worse: dict[str, Any]) -> None:
    bars = bars_of(_results(**FAST) | {part: worse})
    assert [bar.name for bar in bars if bar.is_reached is False] == [part]


def test_memory_is_the_largest_of_all_turns() -> None:
    results = _results(**FAST)
    results["balance"]["rounds"] = [*results["balance"]["rounds"], [_turn("yika", _load(64, **FAST)) | {"resident_mib": 121.0}]]
    assert [(bar.name, bar.value) for bar in bars_of(results) if bar.is_reached is False] == [("worker", 121.0)]
    results["activation"]["rounds"][0]["yika_resident_mib"] = 122.0
    assert [(bar.name, bar.value) for bar in bars_of(results) if bar.is_reached is False] == [("worker", 122.0)]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    bars = bars_of({"worker": {"start_seconds": [1.0]}})
    assert [bar.value for bar in bars if bar.value is not None] == [1.0]
    assert exit_status(bars) == 0
    assert not is_whole(bars)


def test_the_best_peer_is_known_only_when_all_peers_were_there() -> None:
    results = _results(**FAST)
    turns = results["balance"]["rounds"][0]
    results["balance"]["rounds"] = [[turn for turn in turns if turn["server"] != "go"]]
    missing = [bar.of for bar in bars_of(results) if bar.value is None]
    assert missing == ["rate / Go's, 64 connections", "p99 / the best peer's, 64 connections", "p50 / Go's, 1 connection"]


def test_a_bar_of_at_most_is_missed_from_above() -> None:
    assert Bar("x", "y", "at most", 2.0, 2.1).is_reached is False
    assert Bar("x", "y", "at least", 2.0, 1.9).is_reached is False


def test_a_machine_on_which_others_work_is_not_quiet() -> None:
    assert is_quiet(_results(**FAST))
    assert not is_quiet(_results(**FAST) | {"balance": {"rounds": [[_turn("go", _load(64, others_share=0.3))]]}})


def test_the_chart_shows_every_server_and_is_whole() -> None:
    drawn = ET.fromstring(chart(_results(**FAST), TITLES))  # noqa: S314  our own text
    texts = [text.text for text in drawn.iter() if text.tag.endswith("text")]
    assert set(TITLES.values()) <= set(texts)
    assert "10,000" in texts
    lengths = [float(rect.attrib["width"]) for rect in drawn.iter() if rect.tag.endswith("rect")]
    assert len(lengths) == 2 * len(SERVERS)
    assert max(lengths) < 200


@pytest.fixture(scope="module")
async def where(served: Served, config: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """The ground of a run, in the database that the application serves. The next reset takes its people away."""
    del served
    uri = config.mongodb_uri.get_secret_value()
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        ring = load_keyring(config.keyring_path)
        folder = tmp_path_factory.mktemp("bench")
        yield Ground(uri, 0, folder, Cores(0, 0, 0, frozenset((0,))), ring, client[config.mongodb_database])


@pytest.fixture(scope="module")
async def population(where: Ground, config: Config) -> deque[Person]:
    rows = where.folder / "people.ndjson"
    environment = where.yika_environment | {"YIKA_KEYRING": str(config.keyring_path)}
    for command in (generate_command(rows, 50, 50), import_command(rows)):
        made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=os.environ | environment, stdout=DEVNULL)
        async with asyncio.timeout(60):
            assert await made.wait() == 0
    return deque(people_of(where, rows))


@pytest.fixture
def everybody(population: deque[Person]) -> list[Person]:
    """Another one comes first each time: most is asked about the first, and nobody may ask too often."""
    population.rotate()
    return list(population)


@pytest.fixture(scope="module")
async def right(where: Ground, population: deque[Person], served: Served) -> Answers:
    """What the application answers, which passes every check itself."""
    return await check(where, list(population), "yika", served.url, None)


Answer = tuple[int, bytes]
Ask = Callable[[web.Request], Awaitable[Answer]]


async def _through(url: str, request: web.Request) -> Answer:
    """What the application answers to a request."""
    headers = {name: value for name, value in request.headers.items() if name == "Authorization"}
    async with aiohttp.ClientSession() as client, client.get(url + request.path, headers=headers) as response:
        return response.status, await response.read()


async def _checked(ask: Ask, where: Ground, everybody: list[Person], right: Answers) -> None:
    """Hold a peer that answers like this against the application."""

    async def serve(request: web.Request) -> web.Response:
        status, body = await ask(request)
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    async with TestServer(app) as server:
        await check(where, everybody, "peer", str(server.make_url("")).rstrip("/"), right)


async def test_a_peer_that_does_the_same_work_passes(
    where: Ground, everybody: list[Person], right: Answers, served: Served
) -> None:
    await _checked(lambda request: _through(served.url, request), where, everybody, right)


async def test_a_peer_that_answers_a_constant_is_not_measured(where: Ground, everybody: list[Person], right: Answers) -> None:
    async def ask(request: web.Request) -> Answer:
        del request
        return 200, b"{}"

    with pytest.raises(CheckError, match=r"answers \{\} where Yika answers"):
        await _checked(ask, where, everybody, right)


async def test_a_peer_that_asks_nobody_for_a_token_is_not_measured(
    where: Ground, everybody: list[Person], right: Answers
) -> None:
    async def ask(request: web.Request) -> Answer:
        return 200, orjson.dumps(right[request.path.split("/")[3]])

    with pytest.raises(CheckError, match="no token"):
        await _checked(ask, where, everybody, right)


async def test_a_peer_that_remembers_who_may_is_not_measured(
    where: Ground, everybody: list[Person], right: Answers, served: Served
) -> None:
    known: set[tuple[str, str]] = set()

    async def ask(request: web.Request) -> Answer:
        who = (request.headers.get("Authorization", ""), request.path)
        if who in known:
            return 200, orjson.dumps(right[request.path.split("/")[3]])
        status, body = await _through(served.url, request)
        if status == 200:
            known.add(who)
        return status, body

    with pytest.raises(CheckError, match="a session that ended"):
        await _checked(ask, where, everybody, right)


async def test_a_peer_that_remembers_figures_is_not_measured(
    where: Ground, everybody: list[Person], right: Answers, served: Served
) -> None:
    async def ask(request: web.Request) -> Answer:
        status, body = await _through(served.url, request)
        return status, orjson.dumps(right[request.path.split("/")[3]]) if status == 200 else body

    with pytest.raises(CheckError, match="does not see that a balance has changed"):
        await _checked(ask, where, everybody, right)


def test_the_readme_of_the_bench_names_every_file_and_nothing_that_is_not_there() -> None:
    table = (ROOT / "bench" / "README.md").read_text(encoding="utf-8").split("\n## Files\n")[1]
    named = set(re.findall(r"`(\w+\.(?:py|lua))`", table.split("\n\n")[0]))
    there = {file.name for kind in ("*.py", "*.lua") for file in (ROOT / "bench").glob(kind)}
    assert named == there - {"__init__.py"}
