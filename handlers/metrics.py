"""Metrics for Prometheus.

True here: labels are routes, statuses, codes, reasons and other words of ours, all of them few and known beforehand; nothing
that a person sent ever becomes a label. Never here: work on the request's way that can wait until somebody collects; an answer
only adds to numbers, and all answers are given on one thread, so nothing is locked.
"""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from handlers.gauges import Source, read, upstream_metrics
from service import VERSION
from service.errors import Code, Refusal
from service.gateways.counted import CallCounts
from service.locale import catalogue

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A timer of the loop is a millisecond late at best.
_LAGS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
NO_REASON: Final = "none"
Trips = Callable[[], Iterable[tuple[tuple[str, str], tuple[int, int]]]]
_OTHER: Final = "other"
# Why a process is not ready (service/readiness.py). Machines read it; there is no text for people.
_UNREADY: Final = frozenset({"stopping", "database", "seeding", "migration", "keyring"})


class Family(StrEnum):
    """What is counted by its outcome, over several routes."""

    ACTIVATIONS = "yika_activations"
    SIGN_INS = "yika_sign_ins"
    ECARD_REDEMPTIONS = "yika_ecard_redemptions"


# What each says, by what it is told apart beside the result, and which counts there are before anything was counted: an alarm
# that looks at an increase would not see the first of all.
_FAMILIES: Final[dict[Family, tuple[str, str, tuple[str, ...], str]]] = {
    Family.ACTIVATIONS: (
        "Requests to activate a card, by channel and what came of them: a result, or the reason or code of a refusal.",
        "channel",
        ("app", "bank", "hospital", "bureau", "hotline"),
        "activated",
    ),
    Family.SIGN_INS: (
        "Attempts to prove who one is, by method and what came of them.",
        "method",
        ("sms", "password", "face", "staff"),
        "signedIn",
    ),
    Family.ECARD_REDEMPTIONS: (
        "Codes of e-cards that were presented, by channel and what came of them.",
        "channel",
        ("hospital", "bureau", "bank"),
        "redeemed",
    ),
}


class _Times:
    """How long something took: how many times fell into each bucket, and all the seconds together."""

    __slots__ = ("buckets", "counts", "seconds")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.buckets, seconds)] += 1
        self.seconds += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        total = 0
        buckets: list[tuple[str, float]] = []
        for edge, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((edge, float(total)))
        return buckets


class Metrics(Collector):
    """What one process counts, and what it asks about when somebody collects.

    `in_flight`: requests being answered right now. `sources`: what is asked of others at each collection. `trips`: how often
    the database was gone to, and with how much, by collection and kind. `upstream`: calls of the city's systems.
    """

    def __init__(self, sources: Sequence[Source], trips: Trips, upstream: CallCounts) -> None:
        self._sources = sources
        self._trips = trips
        self._upstream = upstream
        self._read: list[Metric] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int, str], int] = {}
        self._times: dict[tuple[str, str], _Times] = {}
        self._refusals: dict[tuple[Code, str], int] = {}
        self._lag = _Times(_LAGS)
        self._outcomes: dict[Family, dict[tuple[str, str], int]] = {
            family: {(kind, good): 0 for kind in kinds} for family, (_, _, kinds, good) in _FAMILIES.items()
        }

    def observe(self, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """One answer. Methods that HTTP does not know are counted as one."""
        method = known_method(method)
        key = (method, route, status, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times(_BUCKETS)
        times.counts[bisect_left(_BUCKETS, seconds)] += 1
        times.seconds += seconds

    def refuse(self, refusal: Refusal) -> None:
        """One refusal."""
        key = (refusal.code, reason_of(refusal))
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def count(self, family: Family, kind: str, outcome: str) -> None:
        """One outcome. `kind` and `outcome` are words of ours."""
        counts = self._outcomes[family]
        counts[kind, outcome] = counts.get((kind, outcome), 0) + 1

    def lag(self, seconds: float) -> None:
        """How late the loop came to a timer."""
        self._lag.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """What has been counted, for the registry."""
        yield from self._answers()
        yield from self._whys()
        yield from self._shared()
        yield from upstream_metrics(self._upstream)
        lag = HistogramMetricFamily("yika_event_loop_lag_seconds", "How late the event loop came to a timer.")
        lag.add_metric((), self._lag.cumulated(), sum_value=self._lag.seconds)
        yield lag
        build = GaugeMetricFamily("yika_build_info", "What runs; always 1.", labels=("version", "python"))
        build.add_metric((VERSION, platform.python_version()), 1)
        yield build
        yield from self._read

    def _answers(self) -> Iterator[Metric]:
        labels = ("method", "route")
        requests = CounterMetricFamily(
            "yika_requests", "Answers by route, status and code.", labels=(*labels, "status", "code")
        )
        for (method, route, status, code), count in self._requests.items():
            requests.add_metric((method, route, str(status), code), count)
        yield requests
        seconds = HistogramMetricFamily("yika_request_seconds", "Time to answer.", labels=labels)
        for names, times in self._times.items():
            seconds.add_metric(names, times.cumulated(), sum_value=times.seconds)
        yield seconds
        yield GaugeMetricFamily("yika_requests_in_flight", "Requests being answered.", value=self.in_flight)

    def _whys(self) -> Iterator[Metric]:
        refusals = CounterMetricFamily("yika_refusals", "Refusals by code and reason.", labels=("code", "reason"))
        for key, count in self._refusals.items():
            refusals.add_metric(key, count)
        yield refusals
        for family, (told, label, _, _) in _FAMILIES.items():
            outcomes = CounterMetricFamily(family, told, labels=(label, "result"))
            for words, count in self._outcomes[family].items():
                outcomes.add_metric(words, count)
            yield outcomes

    def _shared(self) -> Iterator[Metric]:
        labels = ("collection", "kind")
        trips = CounterMetricFamily("yika_shared_trips", "Trips to the database that callers may share.", labels=labels)
        items = CounterMetricFamily("yika_shared_items", "What these trips asked for or wrote.", labels=labels)
        for words, (gone, carried) in self._trips():
            trips.add_metric(words, gone)
            items.add_metric(words, carried)
        yield trips
        yield items

    async def text(self) -> bytes:
        """The exposition format. Who does not answer in time is left out, and the rest is there."""
        self._read = await read(self._sources)
        # Numbers are taken at one moment, on the loop. Writing them down takes ten times as long, so it is done beside it.
        return await asyncio.to_thread(generate_latest, _Taken(list(self.registry.collect())))


class _Taken(Collector):
    """What was collected at a moment."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def known_method(method: str) -> str:
    """A method as a label: one that HTTP knows, or `other`."""
    return method if method in _METHODS else _OTHER


def reason_of(refusal: Refusal) -> str:
    """The reason of a refusal as a label: one that has a text or says why a process is not ready, or `other`, or `none`."""
    reason = refusal.facts.get("reason")
    if reason is None:
        return NO_REASON
    return str(reason) if f"reasons.{reason}" in catalogue() or str(reason) in _UNREADY else _OTHER
