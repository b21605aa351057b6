"""What is only looked at when somebody collects metrics: how much waits, and how long.

True here: a look has a deadline, so a database that is away holds up nobody who asks how this process is; what was not
answered in time is left out and said to be missing, and never shown as it was before. Never here: a number that needs a scan.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from service.errors import Refusal
from service.gateways.counted import CallCounts
from service.ledger import Ledger
from service.relay import Relay

# A collector gives up after ten seconds or so, and then has nothing at all.
LOOK_SECONDS: Final = 2.0

_log = structlog.get_logger("metrics")


@dataclass(frozen=True, slots=True)
class Source:
    """Something to ask at each collection. `name` is a label; `look` may take its time, and may fail."""

    name: str
    look: Callable[[], Awaitable[Iterable[Metric]]]


async def read(sources: Sequence[Source]) -> list[Metric]:
    """Ask all at once, and say of each whether it answered."""
    answered = GaugeMetricFamily("yika_gauges_read", "Whether what waits could be looked at, by source.", labels=("source",))
    metrics: list[Metric] = [answered]
    looks = await asyncio.gather(*(_look(source) for source in sources))
    for source, found in zip(sources, looks, strict=True):
        answered.add_metric((source.name,), 0 if found is None else 1)
        metrics.extend(found or ())
    return metrics


async def _look(source: Source) -> list[Metric] | None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return list(await source.look())
    except (Refusal, TimeoutError):
        return None
    except Exception as error:  # noqa: BLE001  the other numbers are still wanted
        _log.error("gauges_failed", source=source.name, error=type(error).__name__)
        return None


def relay_source(relay: Relay) -> Source:
    """How far behind the relay is. The same from every process, because they share the queue."""

    async def look() -> Iterable[Metric]:
        backlog = await relay.backlog()
        messages = GaugeMetricFamily("yika_messages", "Messages by state that wait, or wait for a person.", labels=("state",))
        for state, count in (("due", backlog.messages), ("dead", backlog.dead), ("uncertain", backlog.uncertain)):
            messages.add_metric((state,), count)
        return (
            _gauge("yika_relay_happenings_waiting", "Happenings of cards that nobody has carried yet.", backlog.happenings),
            messages,
            _gauge("yika_relay_oldest_seconds", "Age of the oldest that waits; 0 where nothing does.", backlog.oldest_seconds),
        )

    return Source("relay", look)


def ledger_source(ledger: Ledger) -> Source:
    """How far behind the chain is. The same from every process."""

    async def look() -> Iterable[Metric]:
        backlog = await ledger.backlog()
        found = [
            _gauge("yika_ledger_waiting", "Access entries that are not in the chain yet.", backlog.waiting),
            _gauge(
                "yika_ledger_oldest_seconds",
                "Age of the oldest entry that waits for the chain; 0 where none does.",
                backlog.oldest_seconds or 0,
            ),
        ]
        if backlog.checkpoint_seconds is not None:
            found.append(
                _gauge("yika_ledger_checkpoint_age_seconds", "Age of the last checkpoint.", backlog.checkpoint_seconds)
            )
        return found

    return Source("ledger", look)


def upstream_metrics(counts: CallCounts) -> Iterable[Metric]:
    """Calls of the city's systems."""
    calls = CounterMetricFamily(
        "yika_upstream_calls", "Calls of the city's systems by question and result.", labels=("question", "result")
    )
    for words, count in counts.calls.items():
        calls.add_metric(words, count)
    seconds = SummaryMetricFamily("yika_upstream_seconds", "Time that these calls took.", labels=("question",))
    for question, count, total in counts.by_question():
        seconds.add_metric((question,), count, total)
    return (calls, seconds)


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, value=value)
