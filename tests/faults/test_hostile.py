import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import orjson
import pytest
from api.client import Api
from faults.workers import Worker, answers, environment, worker

from service.config import Config
from service.mongo.client import Database

HEAD = b"POST /v1/identity/verifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(scope="module")
async def impatient(config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A process that waits one second for heads and bodies."""
    del database
    impatience = {"YIKA_HEADER_SECONDS": "1", "YIKA_BODY_SECONDS": "1"}
    async with worker(environment(config, **impatience), tmp_path_factory.mktemp("hostile") / "log") as running:
        yield running


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """One byte every tenth of a second, as long as somebody takes them."""
    for byte in data:
        if writer.is_closing():
            return
        writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("data", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 100])
async def test_a_head_that_does_not_come_in_time_is_not_waited_for(impatient: Worker, data: bytes) -> None:
    reader, writer = await _connect(impatient.url)
    begun = time.monotonic()
    dripping = asyncio.create_task(_drip(writer, data))
    try:
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    except ConnectionResetError:
        pass
    assert 0.5 < time.monotonic() - begun < 3
    dripping.cancel()
    writer.close()


async def test_a_body_that_does_not_come_in_time_is_a_problem(impatient: Worker) -> None:
    reader, writer = await _connect(impatient.url)
    begun = time.monotonic()
    writer.write(HEAD)
    dripping = asyncio.create_task(_drip(writer, b" " * 50))
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = orjson.loads(await reader.readexactly(length))
    assert head.startswith(b"HTTP/1.1 408")
    assert body["code"] == "request_timeout"
    assert 0.5 < time.monotonic() - begun < 3
    dripping.cancel()
    writer.close()


@pytest.mark.alone
async def test_slow_connections_do_not_slow_down_the_others(impatient: Worker) -> None:
    slow = [await _connect(impatient.url) for _ in range(300)]
    for _, writer in slow:
        writer.write(HEAD[:60])
    async with Api(impatient.url) as api:
        times = []
        for _ in range(50):
            begun = time.perf_counter()
            assert (await api.get("/v1/pages/home")).status == 200
            times.append(time.perf_counter() - begun)
    assert sorted(times)[len(times) // 2] < 0.1
    for _, writer in slow:
        writer.close()


async def test_a_client_that_hangs_up_harms_nobody(impatient: Worker) -> None:
    for _ in range(50):
        _, writer = await _connect(impatient.url)
        writer.write(HEAD + b'{"method":"face","name":"x","idNumber":"1"}' + b" " * 56)
        await writer.drain()
        writer.close()
    assert await answers(impatient.url, "/readyz") == 200
    assert "unexpected" not in impatient.log.read_text()


async def test_an_expectation_is_met_or_left_alone(impatient: Worker) -> None:
    reader, writer = await _connect(impatient.url)
    writer.write(HEAD.replace(b"Host: x\r\n", b"Host: x\r\nExpect: 100-continue\r\n"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b" " * 98 + b"{}")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1)).startswith(b"HTTP/1.1 422")
    writer.close()
    async with Api(impatient.url) as api:
        assert (await api.send("GET", "/livez", headers={"Expect": "miracles"}, checked=False)).status == 200
