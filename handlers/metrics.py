"""Metrics for Prometheus.

True here: labels are routes, statuses and codes, all of them few and known beforehand; nothing that a person sent ever
becomes a label. Each child is looked up once and remembered.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "yika_requests",
            "Answers by route, status and code.",
            ("method", "route", "status", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "yika_request_seconds", "Time to answer.", ("method", "route"), buckets=_BUCKETS, registry=self.registry
        )
        self._flight = Gauge("yika_requests_in_flight", "Requests being answered.", registry=self.registry)
        self._counted: dict[tuple[str, str, int, str], Counter] = {}
        self._timed: dict[tuple[str, str], Histogram] = {}

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it is being answered."""
        self._flight.inc()
        try:
            yield
        finally:
            self._flight.dec()

    def observe(self, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """One answer. Methods that HTTP does not know are counted as one."""
        method = method if method in {"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"} else "other"
        counted = self._counted.get((method, route, status, code))
        if counted is None:
            counted = self._counted[method, route, status, code] = self._requests.labels(method, route, str(status), code)
        counted.inc()
        timed = self._timed.get((method, route))
        if timed is None:
            timed = self._timed[method, route] = self._seconds.labels(method, route)
        timed.observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
