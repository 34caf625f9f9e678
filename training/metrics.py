"""A metric: a number that says what it is, over how much text, and how sure it is."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

import numpy as np

_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes:
        value: In the unit that the definition names; None where nothing could be measured.
        definition: What was divided by what, over which text.
        count: Over how many tokens, words or characters.
        interval: Bounds of the 95% confidence interval of a sample; None over a whole file.
    """

    value: float | None
    definition: str
    count: int
    interval: tuple[float, float] | None = None

    def to_values(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return asdict(self)


def definition_of_all(definitions: Iterable[tuple[str, str]]) -> str:
    """Return one definition for all files.

    Where they differ, each wording is followed by the files that it holds for, in brackets.

    Args:
        definitions: A file's name and the metric's definition there, for each file.
    """
    files: dict[str, list[str]] = {}
    for name, definition in definitions:
        files.setdefault(definition, []).append(f"`{name}`")
    if len(files) == 1:
        return next(iter(files))
    wordings = [re.split(r"([,;:]? )", definition) for definition in files]
    before = _common_beginning(wordings)
    after = _common_beginning([words[len(before) :][::-1] for words in wordings])[::-1]
    told = [
        "".join(words[len(before) : len(words) - len(after)])
        + f" ({', '.join(dict.fromkeys(names))})"
        for words, names in zip(wordings, files.values(), strict=True)
    ]
    return "".join([*before, ", ".join(told), *after])


def _common_beginning(lists: Sequence[Sequence[str]]) -> list[str]:
    together = takewhile(lambda words: len(set(words)) == 1, zip(*lists, strict=False))
    return [words[0] for words in together]


def whole(total: float, count: int, definition: str) -> Metric:
    """Return ``total / count``, measured over a whole file; None for none."""
    return Metric(total / count if count else None, definition, count)


def sampled(
    parts: np.ndarray, wholes: np.ndarray | None, definition: str, *, seed: int = _SEED
) -> Metric:
    """Return ``sum(parts) / sum(wholes)`` over a sample, with a bootstrap interval.

    Args:
        parts: What each sampled position adds above, (N,).
        wholes: What it adds below, (N,); by default 1, for a mean.
        definition: Of the metric.
        seed: Of the resampling: percentiles of 1,000 samples with replacement (Efron 1979).
    """
    below = np.ones(len(parts)) if wholes is None else wholes
    if not len(parts):
        return Metric(None, definition, 0)
    value = float(parts.sum() / below.sum())
    random = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        rows = random.integers(len(parts), size=len(parts))
        means.append(parts[rows].sum() / below[rows].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return Metric(value, definition, len(parts), (float(low), float(high)))
