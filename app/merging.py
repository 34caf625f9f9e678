"""Measurements of several processes as one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# Everything adds up but these, of which the service has one.
_ONE_OF_ALL = {
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "python_info": max,
}


@dataclass
class Family:
    """A metric and its samples, as plain values.

    Attributes:
        name: Of the metric.
        type: As Prometheus calls it: counter, gauge, histogram.
        documentation: A sentence.
        samples: Name, labels, and value of each.
    """

    name: str
    type: str
    documentation: str
    samples: list[tuple[str, dict[str, str], float]]

    @classmethod
    def of(cls, metric: "Metric") -> "Family":
        """Return what the library's object holds."""
        samples = [(sample.name, sample.labels, sample.value) for sample in metric.samples]
        return cls(metric.name, metric.type, metric.documentation, samples)

    def metric(self) -> "Metric":
        """Return the library's object."""
        from prometheus_client.core import Metric

        metric = Metric(self.name, self.documentation, self.type)
        for sample in self.samples:
            metric.add_sample(*sample)
        return metric


def merge(processes: Iterable[tuple[Sequence[Family | dict[str, Any]], bool]]) -> list[Family]:
    """Return the measurements of all processes together.

    Args:
        processes: Of each its families, also as JSON gave them back, and whether it is alive. What
            a dead one counted still counts; of its state, the gauges, nothing is left.
    """
    merged: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families, alive in processes:
        for given in families:
            family = given if isinstance(given, Family) else Family(**given)
            if family.type == "gauge" and not alive:
                continue
            found = values.setdefault(family.name, {})
            merged.setdefault(
                family.name, Family(family.name, family.type, family.documentation, [])
            )
            together = _ONE_OF_ALL.get(family.name)
            for name, labels, value in family.samples:
                key = name, tuple(labels.items())
                if key not in found:
                    found[key] = value
                else:
                    found[key] = together(found[key], value) if together else found[key] + value
    for name, family in merged.items():
        family.samples = [(key[0], dict(key[1]), value) for key, value in values[name].items()]
    return list(merged.values())
