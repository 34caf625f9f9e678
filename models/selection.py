"""The highest of many numbers, without sorting them all."""

import numpy as np


def at_least(log_probs: np.ndarray, which: np.ndarray, count: int | None) -> float:
    """Return a number that at least ``count`` of ``log_probs[which]`` reach, the highest or less.

    Args:
        log_probs: Any numbers (N,).
        which: Indexes, or a mask (N,).
        count: At least 1; None for all.
    """
    found = log_probs[which]
    if count is None or count > len(found):
        return -np.inf
    width = len(found) // max(1, 4 * count)
    if width > 8:
        # The best of blocks: where so many blocks reach a number, so many of all do.
        found = found[: len(found) // width * width].reshape(-1, width).max(axis=1)
    return float(np.partition(found, -count)[-count])


def best_first(log_probs: np.ndarray, *, most: int) -> list[int]:
    """Return the indexes of the ``most`` highest, and of all that equal the last of them.

    Without the equals, sorting more of them later could bring one twice and another never.
    """
    if len(log_probs) <= most:
        best_first: list[int] = np.argsort(-log_probs, kind="stable").tolist()
        return best_first
    found = np.flatnonzero(log_probs >= np.partition(log_probs, -most)[-most])
    best_first = found[np.argsort(-log_probs[found], kind="stable")].tolist()
    return best_first
