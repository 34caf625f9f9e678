"""What is measured, for Prometheus to collect.

Counting is plain arithmetic in the event loop's thread, which alone serves requests; Prometheus's
own objects, with their locks and look-ups, and its import, come in when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Upper bounds, seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# A label takes no value that a client can make up: every one is a time series for good.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER_METHOD = "other"
_OTHER_ROUTE = "other"


def known_method(method: str) -> str:
    """Return a method of HTTP as it may be told: one that a client has made up is `other`."""
    return method if method in METHODS else _OTHER_METHOD


class _Latency:
    """How long the requests of one route took."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)  # by bucket; the last is beyond all bounds
        self.seconds = 0.0


class Metrics:
    """The measurements of one application.

    Attributes:
        in_progress: Requests that have begun and not ended.
    """

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self.in_progress = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()  # by route, method, status
        self._latencies: dict[str, _Latency] = {}
        self._watched: list[Callable[[], Iterable[Metric]]] = []
        self._registry: CollectorRegistry | None = None

    def watch(self, collect: Callable[[], Iterable["Metric"]]) -> None:
        """Add metrics that ``collect`` returns each time somebody asks, and only then."""
        self._watched.append(collect)

    def observe(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count a request that has ended.

        Args:
            route: Template of its path; None for a path that leads nowhere, and for the pages of
                the documentation.
            method: Of HTTP, as the client sent it.
            status: Of the answer; 0 where there was none.
            seconds: From its head to the end of the answer.
        """
        route = route or _OTHER_ROUTE
        self._requests[route, known_method(method), status] += 1
        latency = self._latencies.get(route)
        if latency is None:
            latency = self._latencies[route] = _Latency()
        latency.counts[bisect_left(BUCKETS, seconds)] += 1
        latency.seconds += seconds

    def render(self) -> bytes:
        """Return everything in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._everything())

    def families(self) -> Iterable["Metric"]:
        """Return everything as the library's objects."""
        return self._everything().collect()

    def _everything(self) -> "CollectorRegistry":
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

        if self._registry is None:
            # Its own, not the library's global one: two applications in a process do not clash.
            self._registry = CollectorRegistry()
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
        return self._registry

    def describe(self) -> Iterable["Metric"]:
        """Return nothing, so that registering this collects nothing yet."""
        return ()

    def collect(self) -> Iterator["Metric"]:
        """Yield what was measured here, then what is watched."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        requests = CounterMetricFamily(
            "nextword_http_requests",
            "Requests that have ended; status 0: without an answer.",
            labels=("route", "method", "status"),
        )
        for (route, method, status), count in self._requests.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests

        durations = HistogramMetricFamily(
            "nextword_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            labels=("route",),
        )
        for route, latency in self._latencies.items():
            durations.add_metric((route,), cumulative(BUCKETS, latency.counts), latency.seconds)
        yield durations

        yield GaugeMetricFamily(
            "nextword_http_requests_in_progress",
            "Requests that have begun and not ended.",
            self.in_progress,
        )
        for collect in self._watched:
            yield from collect()


def cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram as the format wants it: how many were at most each bound.

    Args:
        bounds: Of the buckets, ascending.
        counts: Of each bucket alone; one more than bounds, for what is beyond them all.
    """
    total, buckets = 0, []
    for bound, count in zip((*map(str, map(float, bounds)), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
