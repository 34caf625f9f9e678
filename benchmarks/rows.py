"""Measurements of several sides by turns, and what they amount to."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PAUSE = 0.05  # seconds between two turns, for threads to fall asleep


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        value: In the row's unit.
        details: What else was measured at the same time, by name.
    """

    value: float
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class Side:
    """One of those that a row compares.

    Attributes:
        name: As the table shows it.
        measure: Takes one measurement.
        missing: Why it could not be measured; empty where it could.
        setting: What it was tuned to, by name.
        figures: One a round.
    """

    name: str
    measure: Callable[[], Figure] | None
    missing: str = ""
    setting: dict[str, int] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """The rounds' values, in the row's unit."""
        return [figure.value for figure in self.figures]

    def detail(self, name: str) -> float:
        """Return the median of a detail over the rounds."""
        return statistics.median(figure.details[name] for figure in self.figures)


@dataclass
class Row:
    """One comparison; the first side, or the first of a curve, is what others are compared with.

    Attributes:
        name: By which it can be asked for.
        title: As the table shows it.
        unit: Of the values.
        more_is_better: Whether the values are rates rather than times.
        sides: Ours first.
        note: What a reader must know to read the figures right.
        curve: Where the sides are points of curves: the curve's name and x of each side.
        x_label: What x is.
    """

    name: str
    title: str
    unit: str
    more_is_better: bool
    sides: list[Side]
    note: str = ""
    curve: Sequence[tuple[str, float]] = ()
    x_label: str = ""

    def run(self, rounds: int, *, warm_up: bool = False) -> None:
        """Measure all sides by turns; every other round in the opposite order.

        Args:
            rounds: Measurements of each side.
            warm_up: Take one more before them, which does not count.
        """
        sides = [side for side in self.sides if side.measure is not None]
        for number in range(rounds + warm_up):
            for side in sides if number % 2 == 0 else sides[::-1]:
                assert side.measure is not None
                time.sleep(PAUSE)
                side.figures.append(side.measure())
            if warm_up and number == 0:
                for side in sides:
                    side.figures.clear()

    def first(self, side: Side) -> Side:
        """Return what ``side`` is compared with: the first of all, or of its curve."""
        if not self.curve:
            return self.sides[0]
        names = [name for name, _ in self.curve]
        return self.sides[names.index(names[self.sides.index(side)])]

    def ratios(self, side: Side) -> list[float]:
        """Return how many times as fast the first side was as ``side``, round by round."""
        pairs = zip(self.first(side).values, side.values, strict=False)
        return [ours / theirs if self.more_is_better else theirs / ours for ours, theirs in pairs]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest."""
    return statistics.median(values), min(values), max(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def fastest(candidates: Sequence[Side], *, more_is_better: bool, turns: int = 3) -> Side:
    """Return the best of several settings of one side, which are measured by turns.

    A setting's first turn, which warms it up, does not count.
    """
    if len(candidates) > 1:
        Row("", "", "", more_is_better, list(candidates)).run(turns)
    medians = [statistics.median(side.values[1:] or [0.0]) for side in candidates]
    best = (max if more_is_better else min)(range(len(candidates)), key=medians.__getitem__)
    chosen = candidates[best]
    chosen.figures.clear()
    return chosen
