"""Metrics for Prometheus.

True here: labels are routes, statuses and codes, all of them few and known beforehand; nothing that a person sent ever
becomes a label. Never here: work on the request's way that can wait until somebody collects; an answer only adds to numbers,
and all answers are given on one thread, so nothing is locked.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EDGES: Final = (*map(str, _BUCKETS), "+Inf")
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class _Times:
    """How long answers of one route took: how many fell into each bucket, and all their seconds together."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0


class Metrics(Collector):
    """What one process counts. `in_flight`: requests being answered right now."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int, str], int] = {}
        self._times: dict[tuple[str, str], _Times] = {}

    def observe(self, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """One answer. Methods that HTTP does not know are counted as one."""
        if method not in _METHODS:
            method = "other"
        key = (method, route, status, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times()
        times.counts[bisect_left(_BUCKETS, seconds)] += 1
        times.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """What has been counted, for the registry."""
        labels = ("method", "route")
        requests = CounterMetricFamily(
            "yika_requests", "Answers by route, status and code.", labels=(*labels, "status", "code")
        )
        for (method, route, status, code), count in self._requests.items():
            requests.add_metric((method, route, str(status), code), count)
        yield requests
        seconds = HistogramMetricFamily("yika_request_seconds", "Time to answer.", labels=labels)
        for names, times in self._times.items():
            seconds.add_metric(names, _cumulated(times.counts), sum_value=times.seconds)
        yield seconds
        yield GaugeMetricFamily("yika_requests_in_flight", "Requests being answered.", value=self.in_flight)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for edge, count in zip(_EDGES, counts, strict=True):
        total += count
        buckets.append((edge, float(total)))
    return buckets
