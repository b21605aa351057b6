"""Traces: what a span says and nothing more, whose trace it is on, and that a collector can be away."""

import asyncio
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from api.client import Api
from api.collector import Collector, collecting
from conftest import free_port

from service.config import Config, ConfigError, read_config
from service.server import Served, serving

ROOT = Path(__file__).parents[2]
REQUEST_WORDS: Final = {
    *("http.request.method", "http.route", "http.response.status_code", "yika.code", "yika.request_id"),
}
DATABASE_WORDS: Final = {"db.system.name", "db.operation.name", "db.collection.name"}


def _traced(config: Config, url: str, share: float = 1) -> Config:
    return config.model_copy(update={"traces_endpoint": url, "traces_share": share})


async def test_a_request_has_a_span_on_the_trace_it_came_with(api: Api, config: Config) -> None:
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    async with collecting() as collector:
        async with serving(_traced(config, collector.url)) as served, Api(served.url) as client:
            reply = await client.get("/v1/regions/990100/rules", traceparent=f"00-{trace}-{span}-01", X_Request_Id="asked-1")
        (told,) = collector.named("GET /v1/regions/{region_code}/rules")
    assert (told.trace_id, told.parent_id, told.failed) == (trace, span, False)
    assert reply.headers["traceparent"] == f"00-{trace}-{told.span_id}-01"
    assert told.words == {
        "http.request.method": "GET",
        "http.route": "/v1/regions/{region_code}/rules",
        "http.response.status_code": 200,
        "yika.code": "ok",
        "yika.request_id": "asked-1",
    }
    assert collector.resources[0] == {"service.name": "yika", "service.version": "0.1.0"}
    assert (await api.get("/v1/regions")).status == 200


async def _journey(served: Served) -> None:
    async with Api(served.url) as api:
        await api.post("/sandbox/reset")
        client = await api.sign_in("sealed")
        card_id = (await client.activate(await api.details("sealed"))).json["cardId"]
        assert (await client.get("/v1/receipts")).status == 200
        assert (await client.get(f"/v1/cards/{card_id}/balance?idNumber=11010519491231002X")).status == 200
        assert (await client.get("/v1/cards/11010519491231002X")).status == 404
        assert (await client.send("PROPFIND", "/v1/cards", checked=False)).status == 405
        assert (await client.get("/v1/nowhere", checked=False, traceparent="nonsense")).status == 404
        assert (await client.get("/v1/housing-fund")).status == 200
        await api.messages((await api.persona("sealed"))["mobile"])


@pytest.fixture(scope="module")
async def collected(config: Config, database: object) -> Collector:
    """What a journey left with a collector."""
    del database
    async with collecting() as collector:
        async with serving(_traced(config, collector.url), seed_first=True) as served:
            await _journey(served)
        return collector


def test_every_span_says_words_that_are_known_and_no_others(collected: Collector) -> None:
    shapes = {"GET": REQUEST_WORDS, "POST": REQUEST_WORDS, "other": REQUEST_WORDS, "send": {"yika.template"}, "ask": set[str]()}
    for span in collected.spans:
        words = set(span.words) - {"error.type"}
        assert words == shapes.get(span.name.partition(" ")[0], DATABASE_WORDS), span.name
        for word in ("db.collection.name", "yika.template", "yika.code", "db.operation.name", "error.type"):
            assert re.fullmatch(r"[A-Za-z_]*", str(span.words.get(word, ""))), span
    assert len(collected.spans) > 30


def test_a_journey_is_seen_with_its_calls_of_the_database_its_messages_and_the_citys_systems(collected: Collector) -> None:
    (done,) = collected.named("POST /v1/activations")
    names = {span.name for span in collected.spans}
    beneath = [
        span for span in collected.named("find cards") if span.trace_id == collected.named("GET /v1/receipts")[0].trace_id
    ]
    assert beneath
    assert beneath[0].parent_id == collected.named("GET /v1/receipts")[0].span_id
    assert done.words["yika.code"] == "ok"
    assert {"send sms", "ask housingFund", "GET /v1/cards/{card_id}/balance"} <= names
    assert {span.words["yika.template"] for span in collected.named("send sms")} >= {"card_activated", "verification_code"}
    # What is beneath nothing is nobody's.
    roots = {span.name.partition(" ")[0] for span in collected.spans if not span.parent_id}
    assert roots <= {"GET", "POST", "other", "send", "ask"}


def test_nothing_that_was_sent_is_in_a_span(collected: Collector) -> None:
    everything = b"\n".join(collected.raw) + repr(collected.spans).encode() + "\n".join(collected.headers).encode()
    assert b"sealed" not in everything
    for sent in (b"11010519491231002X", b"nonsense", b"PROPFIND", b"nowhere", b"idNumber", b"127.0.0.1:", b"card_a", b"hld_"):
        found = everything.replace(b"card_activated", b"")
        assert sent not in found or sent == b"127.0.0.1:", sent
    unknown = [span for span in collected.spans if span.words.get("yika.code") in {"not_found", "method_not_allowed"}]
    assert {span.words["http.response.status_code"] for span in unknown} == {404, 405}


async def test_a_collector_that_is_away_costs_no_request_and_no_stop(api: Api, config: Config) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1/traces"
    async with serving(_traced(config, nowhere)) as served:
        async with Api(served.url) as client:
            replies = await asyncio.gather(*(client.get("/v1/regions") for _ in range(200)))
            assert {reply.status for reply in replies} == {200}
            # Long enough for the first attempt to send.
            await asyncio.sleep(5.5)
            assert (await client.get("/v1/regions")).status == 200
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 8
    assert (await api.get("/livez")).status == 200


async def test_how_many_traces_are_kept_is_not_for_the_caller_to_say(config: Config) -> None:
    async with collecting() as collector, serving(_traced(config, collector.url, share=0)) as served:
        async with Api(served.url) as client:
            for _ in range(20):
                reply = await client.get("/v1/regions", traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
                assert reply.headers["traceparent"].endswith("-00")
        assert served.process.tracing is not None
        await served.process.tracing.close()
        assert collector.spans == []


def test_without_a_collector_nothing_of_tracing_is_loaded() -> None:
    asked = "import sys, service.serve_commands; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://collector/v1/traces", "http://"])
def test_an_address_that_is_none_stops_the_start_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ConfigError, match="YIKA_TRACES_ENDPOINT") as refused:
        read_config(environment="sandbox", traces_endpoint=wrong)
    assert wrong not in str(refused.value)
