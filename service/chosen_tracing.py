"""Whether and where a process sends traces, by its settings.

True here: without a collector's address nothing of tracing is imported, and nothing of what serves is wrapped. Never here: a
collector that is asked before there is something to send.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from service.config import Config
from service.gateways.chosen import Gateways
from service.gateways.upstream import UpstreamGateway
from service.tracing import TracedEmail, TracedSms, TracedUpstream, Tracing


@asynccontextmanager
async def tracing_of(config: Config) -> AsyncIterator[Tracing | None]:
    """Where spans go, or None where nobody wants any; leaving it sends the last."""
    if not config.traces_endpoint:
        yield None
        return
    from service.otlp import OtlpTracing  # noqa: PLC0415  comes with an extra, and takes its time

    tracing = OtlpTracing(config.traces_endpoint, config.traces_share)
    try:
        yield tracing
    finally:
        await tracing.close()


def traced_gateways(gateways: Gateways, tracing: Tracing | None) -> Gateways:
    """The same gateways, with a span around each send where spans are wanted."""
    if tracing is None:
        return gateways
    return replace(gateways, sms=TracedSms(gateways.sms, tracing), email=TracedEmail(gateways.email, tracing))


def traced_upstream(gateway: UpstreamGateway, tracing: Tracing | None) -> UpstreamGateway:
    """The same gateway, with a span around each question where spans are wanted."""
    return gateway if tracing is None else TracedUpstream(gateway, tracing)
