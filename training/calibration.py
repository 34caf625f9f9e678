"""Whether probabilities hold what they promise: calibration error (Guo et al. 2017)."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

BINS = 15
_SIMULATIONS = 1000


@dataclass
class Reliability:
    """Predictions sorted into bins of equal width by their probability.

    Attributes:
        counts: Predictions in each bin, (BINS,), int64.
        confidence: Sum of their probabilities, (BINS,), float64.
        hits: How many of them came true, (BINS,), int64.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    hits: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))

    def add(self, probabilities: np.ndarray, came_true: np.ndarray) -> None:
        """Sort predictions in: their probabilities (N,), and whether they came true (N,), bool."""
        bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.confidence += np.bincount(bins, weights=probabilities, minlength=BINS)
        self.hits += np.bincount(bins[came_true], minlength=BINS)

    @property
    def error(self) -> float:
        """Mean distance of a bin's mean probability to its share of hits, weighted by its size."""
        total = self.counts.sum()
        return float(np.abs(self.confidence - self.hits).sum() / total) if total else float("nan")

    @property
    def chance(self) -> float:
        """The error that so many predictions show on average if all hold what they promise.

        A bin's share of hits scatters about its probability even then, and the error counts
        distances: few predictions look badly calibrated whatever made them. Simulated, a bin of
        predictions at a time; NaN for none.
        """
        filled = self.counts > 0
        counts = self.counts[filled]
        shares = np.clip(self.confidence[filled] / counts, 0, 1)
        drawn = np.random.default_rng(0).binomial(counts, shares, size=(_SIMULATIONS, len(counts)))
        distances = np.abs(drawn - self.confidence[filled]).sum(axis=1)
        return float(distances.mean() / counts.sum()) if filled.any() else float("nan")

    def to_values(self) -> dict[str, list[Any]]:
        """Return plain values, the inverse of `from_values`."""
        return {
            "counts": self.counts.tolist(),
            "confidence": [round(float(c), 6) for c in self.confidence],
            "hits": self.hits.tolist(),
        }

    @classmethod
    def from_values(cls, values: dict[str, list[Any]]) -> "Reliability":
        """Read what `to_values` returned."""
        return cls(
            np.array(values["counts"], dtype=np.int64),
            np.array(values["confidence"], dtype=np.float64),
            np.array(values["hits"], dtype=np.int64),
        )
