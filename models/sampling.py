"""Choosing the next token: pure functions of log-probabilities; the random generator is passed in.

All take and return natural log-probabilities (V,) up to a constant; -inf is "never".
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Filters:
    """How the distribution is bent before a token is drawn.

    Attributes:
        temperature: Divides log-probabilities; 0 takes the most probable token.
        top_k: Keep this many of the most probable tokens; None keeps all.
        top_p: Keep the fewest most probable tokens that hold this mass (Holtzman et al. 2020).
        min_p: Drop tokens less probable than this share of the most probable (Nguyen et al. 2024).
        repetition_penalty: Multiplies log-probabilities of tokens seen (after Keskar et al. 2019,
            eq. 2, where it divides positive logits; log-probabilities are never positive).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def penalise_repetition(log_probs: np.ndarray, seen: Collection[int], penalty: float) -> np.ndarray:
    """Make tokens that were seen less likely; 1 changes nothing."""
    if penalty == 1 or not seen:
        return log_probs
    penalised = log_probs.copy()
    penalised[[*seen]] *= penalty
    return penalised


def keep_top_k(log_probs: np.ndarray, top_k: int) -> np.ndarray:
    """Drop all but the ``top_k`` most probable tokens, and those equal to the last kept."""
    if top_k >= len(log_probs):
        return log_probs
    threshold = np.partition(log_probs, -top_k)[-top_k]
    return np.where(log_probs >= threshold, log_probs, -np.inf)


def keep_top_p(log_probs: np.ndarray, top_p: float) -> np.ndarray:
    """Keep the fewest most probable tokens whose share of the mass reaches ``top_p``."""
    if top_p >= 1:
        return log_probs
    order = np.argsort(-log_probs, kind="stable")
    mass = np.cumsum(_normalised(log_probs)[order])
    kept = int(np.searchsorted(mass, top_p)) + 1
    filtered = np.full_like(log_probs, -np.inf)
    filtered[order[:kept]] = log_probs[order[:kept]]
    return filtered


def keep_min_p(log_probs: np.ndarray, min_p: float) -> np.ndarray:
    """Drop tokens less probable than ``min_p`` times the most probable one."""
    if min_p <= 0:
        return log_probs
    return np.where(log_probs >= log_probs.max() + np.log(min_p), log_probs, -np.inf)


def choose(
    log_probs: np.ndarray,
    seen: Collection[int],
    filters: Filters,
    random: np.random.Generator,
    *,
    never: int | None = None,
) -> int:
    """Draw the next token: penalty, temperature, top-k, top-p, min-p, in this order.

    Args:
        log_probs: Of the next token; -inf for what must not come.
        seen: Token ids that the repetition penalty applies to.
        filters: Temperature 0 takes the most probable token after the penalty.
        random: Asked for one number, unless temperature is 0.
        never: A token that must not come, whatever its probability.
    """
    log_probs = penalise_repetition(log_probs, seen, filters.repetition_penalty)
    if filters.temperature == 0:
        best = int(log_probs.argmax())
        if best == never:  # seldom, so that most often there is nothing to copy
            log_probs = log_probs.copy()
            log_probs[never] = -np.inf
            best = int(log_probs.argmax())
        return best
    log_probs = log_probs.astype(np.float64)  # so that small shares of the mass are drawn fairly
    if never is not None:
        log_probs[never] = -np.inf
    with np.errstate(over="ignore"):  # near temperature 0 all but the highest may become -inf
        log_probs = (log_probs - log_probs.max()) / filters.temperature
    if filters.top_k is not None:
        log_probs = keep_top_k(log_probs, filters.top_k)
    log_probs = keep_min_p(keep_top_p(log_probs, filters.top_p), filters.min_p)
    mass = np.cumsum(_normalised(log_probs))
    # The last token with mass ends at 1 but for rounding; whatever lies above belongs to it.
    drawn = int(np.searchsorted(mass, random.random() * mass[-1], side="right"))
    return min(drawn, int(np.flatnonzero(log_probs > -np.inf)[-1]))


def _normalised(log_probs: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = np.exp(log_probs - log_probs.max())
    probabilities /= probabilities.sum()
    return probabilities
