"""The engine's counts as Prometheus metrics, made when they are asked for."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from app.engine.stats import BATCH_BOUNDS, Stats
from app.metrics import cumulative

_COUNTERS = {
    "steps": "Times that passes were computed together.",
    "passes": "Forward passes computed.",
    "tokens": "Tokens computed.",
    "compute_seconds": "Time spent computing.",
    "cache_hits": "Passes that found tokens already read.",
    "cache_misses": "Passes that found none.",
    "cache_hit_tokens": "Tokens that were not read again.",
    "tokens_ahead": "Tokens read before anybody asked for them.",
    "cache_evictions": "States dropped to make room.",
    "rejected": "Requests that found the queue full.",
    "dropped": "Requests that nobody waited for any more.",
    "failed": "Requests that ended in an error.",
    "finished": "Requests that came to their end.",
}
_GAUGES = {
    "queue_items": "Texts and continuations that wait.",
    "running_items": "Texts and continuations under way.",
    "cache_bytes": "Memory of the states kept.",
    "cache_entries": "States kept.",
}


def engine_metrics(models: Iterable[tuple[str, Stats]]) -> Iterator[Metric]:
    """Yield all metrics, each with the label ``model``."""
    counters = {
        name: CounterMetricFamily(f"nextword_{name}", text, labels=["model"])
        for name, text in _COUNTERS.items()
    }
    gauges = {
        name: GaugeMetricFamily(f"nextword_{name}", text, labels=["model"])
        for name, text in _GAUGES.items()
    }
    batches = HistogramMetricFamily(
        "nextword_batch_size", "Forward passes computed together.", labels=["model"]
    )
    for model, stats in models:
        for name, value in _values(stats).items():
            (counters.get(name) or gauges[name]).add_metric([model], value)
        batches.add_metric([model], cumulative(BATCH_BOUNDS, stats.batches), sum_value=stats.passes)
    yield from (*counters.values(), *gauges.values(), batches)


def _values(stats: Stats) -> dict[str, float]:
    cache = stats.cache
    return {
        "steps": stats.steps,
        "passes": stats.passes,
        "tokens": stats.tokens,
        "compute_seconds": stats.seconds,
        "cache_hits": cache.hits,
        "cache_misses": cache.misses,
        "cache_hit_tokens": cache.hit_tokens,
        "tokens_ahead": stats.tokens_ahead,
        "cache_evictions": cache.evictions,
        "rejected": stats.rejected,
        "dropped": stats.dropped,
        "failed": stats.failed,
        "finished": stats.finished,
        "queue_items": stats.queued,
        "running_items": stats.running,
        "cache_bytes": cache.bytes,
        "cache_entries": cache.entries,
    }
