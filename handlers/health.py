"""Health. Live: this process answers. Ready: it should get traffic."""

from handlers.endpoints import Call, Reply
from schemas.health import HealthView


async def live(call: Call[None]) -> HealthView:  # noqa: ARG001  a handler takes its call
    """Whether this process is alive."""
    return HealthView(status="ok")


async def ready(call: Call[None]) -> HealthView:
    """Whether this process should get traffic: it is not stopping, and the database answers."""
    await call.services.ready()
    return HealthView(status="ready")


async def show_metrics(call: Call[None]) -> Reply:
    """What Prometheus collects."""
    return Reply(await call.services.metrics.text(), media_type="text/plain; version=0.0.4")
