"""What goes over the wire, byte by byte: heads are ours and not a library's."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest
import uvloop
from api.client import Api

from handlers.answers import Outgoing


async def _say(url: str, said: bytes, *, answers: int = 1) -> bytes:
    """Say something on a connection of its own; everything that came back until it was closed, or until so many answers."""
    host = urlsplit(url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(said)
    got = b""
    async with asyncio.timeout(10):
        while data := await reader.read(65_536):
            got += data
            if got.count(b'{"status":"ok"}') >= answers:
                break
    writer.close()
    return got


async def test_head_and_body_are_whole(api: Api) -> None:
    head, _, body = (await _say(api.url, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")).partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "HTTP/1.1 200 OK"
    assert len(headers) == len(lines)
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Date"].endswith(" GMT")
    assert "Connection" not in headers
    assert {
        "Content-Type",
        "Cache-Control",
        "X-Content-Type-Options",
        "X-Request-Id",
        "traceparent",
        "Server",
    } <= headers.keys()


@pytest.mark.parametrize(
    ("version", "asked", "told"),
    [
        ("1.1", "", None),
        ("1.1", "close", "close"),
        ("1.0", "", "close"),
        ("1.0", "keep-alive", "keep-alive"),
    ],
)
async def test_a_client_is_told_whether_the_connection_lives_on(api: Api, version: str, asked: str, told: str | None) -> None:
    line = f"Connection: {asked}\r\n" if asked else ""
    said = f"GET /livez HTTP/{version}\r\nHost: a\r\n{line}\r\n".encode()
    times = 1 if told == "close" else 2
    # Where the connection is closed, reading ends by itself.
    got = (await _say(api.url, said * times, answers=9 if told == "close" else times)).decode()
    assert got.count("HTTP/1.1 200 OK") == times
    assert got.count("\r\nConnection: ") == (0 if told is None else times)
    if told is not None:
        assert got.count(f"\r\nConnection: {told}\r\n") == times


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    said = b"".join(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: n%d\r\n\r\n" % n for n in range(20))
    got = (await _say(api.url, said, answers=20)).decode()
    ids = [line.removeprefix("X-Request-Id: ") for line in got.split("\r\n") if line.startswith("X-Request-Id: ")]
    assert ids == [f"n{n}" for n in range(20)]


async def test_many_connections_at_once_each_get_their_own_answers_in_order_and_the_last_is_the_last(api: Api) -> None:
    def said(client: int) -> bytes:
        heads = [b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: c%d.%d\r\n" % (client, n) for n in range(4)]
        return b"\r\n".join(heads) + b"Connection: close\r\n\r\n"

    # Nine are more than there are: reading ends where the connection does.
    for client, got in enumerate(await asyncio.gather(*(_say(api.url, said(client), answers=9) for client in range(60)))):
        lines = got.decode().split("\r\n")
        ids = [line.removeprefix("X-Request-Id: ") for line in lines if line.startswith("X-Request-Id: ")]
        assert ids == [f"c{client}.{n}" for n in range(4)]
        assert [line for line in lines if line.startswith("Connection:")] == ["Connection: close"]
        assert got.count(b'{"status":"ok"}') == 4


async def test_a_connection_that_is_gone_takes_nobody_elses_answer_along() -> None:
    async def answered() -> bytes:
        loop = asyncio.get_running_loop()
        outgoing = Outgoing(loop)
        with socket.create_server(("127.0.0.1", 0)) as door:
            clients = [socket.create_connection(door.getsockname()) for _ in range(2)]
            gone, there = [(await loop.connect_accepted_socket(asyncio.Protocol, door.accept()[0]))[0] for _ in clients]
        gone.abort()
        # Two turns of the loop later nothing is left of it, and uvloop refuses to write to it.
        for _ in range(2):
            await asyncio.sleep(0)
        outgoing.put(gone, b"for nobody")
        outgoing.put(there, b"for somebody")
        clients[1].settimeout(5)
        try:
            return await asyncio.to_thread(clients[1].recv, 100)
        finally:
            there.close()
            for client in clients:
                client.close()

    # The loop that the service runs on, whatever the tests do.
    assert await asyncio.to_thread(uvloop.run, answered()) == b"for somebody"


async def test_who_waits_to_be_told_to_go_on_is_told_after_the_answer_before(api: Api) -> None:
    host = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    body = b'{"receipt":"x"}'
    first = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    second = "POST /v1/receipts/verify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    writer.write(f"{first}{second}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        told = await reader.readuntil(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(body)
        rest = await reader.read()
    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'{"status":"ok"}HTTP/1.1 100' in told
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_head_request_gets_no_body(api: Api) -> None:
    said = b"HEAD /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head, _, body = (await _say(api.url, said)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in head
    assert body == b""


async def test_what_is_known_already_comes_without_a_body(api: Api) -> None:
    etag = (await api.get("/openapi.json")).headers["ETag"]
    said = f"GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIf-None-Match: {etag}\r\n\r\n".encode()
    head, _, body = (await _say(api.url, said)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b"Content-Length" not in head
    assert body == b""


async def test_a_client_that_asks_first_is_told_to_go_on(api: Api) -> None:
    host = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    body = b'{"receipt":"x"}'
    head = "POST /v1/receipts/verify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_nothing_that_a_client_sends_can_add_a_header(api: Api) -> None:
    said = (
        b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: a%0d%0aSet-Cookie: b\r\n"
        b"traceparent: 00-x\xc4\x8d\xc4\x8aSet-Cookie: b\r\nOrigin: http://a\xc4\x8a\r\n"
        b"Accept-Language: en\xc4\x8aSet-Cookie:\r\n\r\n"
    )
    head, _, _ = (await _say(api.url, said)).partition(b"\r\n\r\n")
    assert b"Set-Cookie" not in head
