"""A collector of traces, as far as a sender can tell: takes OTLP over HTTP and keeps every span."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


@dataclass(frozen=True)
class Spanned:
    """A span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    words: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What has arrived. `raw`: every byte; `resources`: what was said of who sends."""

    url: str
    raw: list[bytes] = field(default_factory=list)
    spans: list[Spanned] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Spanned]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        """One request of a sender."""
        self.raw.append(body)
        for told in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_words(told.resource.attributes))
            for scope in told.scope_spans:
                for span in scope.spans:
                    assert not span.events
                    assert not span.links
                    assert not span.status.message
                    self.spans.append(
                        Spanned(
                            name=span.name,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            words=_words(span.attributes),
                            failed=span.status.code == 2,
                        )
                    )


def _words(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port."""

    async def take(request: web.Request) -> web.Response:
        collector.headers += [f"{name}: {value}" for name, value in request.headers.items()]
        collector.take(await request.read())
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector = Collector(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces")
    try:
        yield collector
    finally:
        await runner.cleanup()
