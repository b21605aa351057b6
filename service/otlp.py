"""Traces by OpenTelemetry, sent by OTLP over HTTP: the only module that knows it, and only imported where it is wanted.

True here: spans are kept in a bounded queue and sent by a thread of their own, so a collector that is slow or away costs
spans and no request; nothing is taken from the environment but what the configuration names. Never here: an exception in a
span, because texts hold values.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import VERSION
from service.tracing import NAME, Span, SpanKind, Words

_KINDS: Final = {"server": trace.SpanKind.SERVER, "client": trace.SpanKind.CLIENT}
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_EXPORT_SECONDS: Final = 5.0
# A stop waits that long for what was not sent yet, and then leaves it.
_FAREWELL_SECONDS: Final = 2.0


class _Span:
    """A Span of OpenTelemetry's."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        here = self._span.get_span_context()
        return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def say(self, words: Words) -> None:
        self._span.set_attributes(words)

    def fail(self, what: str) -> None:
        self._span.set_status(trace.StatusCode.ERROR)
        self._span.set_attribute("error.type", what)

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()


class OtlpTracing:
    """Tracing. `endpoint`: the collector's address for traces, path included. `share`: how many traces are kept, 0 to 1."""

    def __init__(self, endpoint: str, share: float) -> None:
        # Whoever calls says which trace it belongs to; how many are kept is ours to say, also where they want theirs kept.
        ours = TraceIdRatioBased(share)
        self._provider = TracerProvider(
            sampler=ParentBased(root=ours, remote_parent_sampled=ours),
            resource=Resource({"service.name": NAME, "service.version": VERSION}),
            span_limits=SpanLimits(max_events=0, max_links=0, max_span_attribute_length=200),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_EXPORT_SECONDS)))
        self._tracer = self._provider.get_tracer(NAME, VERSION)

    @contextmanager
    def within(self, name: str, kind: SpanKind, traceparent: str | None = None) -> Iterator[Span]:
        parent = _PROPAGATOR.extract({"traceparent": traceparent}, context.Context()) if traceparent else None
        if kind == "server" and parent is None:
            parent = context.Context()
        span = self._tracer.start_span(name, parent, kind=_KINDS[kind], record_exception=False, set_status_on_exception=False)
        token = context.attach(trace.set_span_in_context(span, parent))
        spoken = _Span(span)
        try:
            yield spoken
        except BaseException as error:
            spoken.fail(type(error).__name__)
            raise
        finally:
            context.detach(token)
            span.end()

    def beneath(self, name: str, kind: SpanKind) -> Span | None:
        if not trace.get_current_span().is_recording():
            return None
        return _Span(self._tracer.start_span(name, kind=_KINDS[kind], record_exception=False, set_status_on_exception=False))

    async def close(self) -> None:
        """Send what is still there, for so long as a stop may take, and no longer."""
        farewell = Thread(target=self._provider.shutdown, daemon=True)
        farewell.start()
        await asyncio.to_thread(farewell.join, _FAREWELL_SECONDS)
