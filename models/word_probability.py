"""The probability of a given word: the product over its pieces, summed over its spellings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.forward import Forward, Pass, Program, read
from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN

_JOIN = JOIN.encode()


@dataclass(frozen=True)
class Temper:
    """Raises each token's distribution to the inverse of a temperature, and renormalises it."""

    temperature: float

    def __call__(self, log_probs: np.ndarray) -> np.ndarray:
        """Return natural log-probabilities (V,) of the natural log-probabilities (V,) given.

        They are float64 unless the temperature is 1, which returns what it is given.
        """
        if self.temperature == 1:
            return log_probs
        log_probs = log_probs.astype(np.float64)
        # The highest is 0 before it is divided, so that no temperature makes infinities of all.
        with np.errstate(over="ignore"):
            scaled = (log_probs - log_probs.max()) / self.temperature
        tempered: np.ndarray = scaled - np.log(np.exp(scaled).sum())
        return tempered


def sequence_log_prob(token_ids: Sequence[int], before: Pass, whole: Pass, temper: Temper) -> float:
    """Return the natural log-probability of ``token_ids``, read by ``whole`` after ``before``."""
    rows = [before.log_probs.numpy(), *whole.log_probs.numpy()]
    pairs = zip(rows, token_ids, strict=False)
    return float(sum(temper(row)[token] for row, token in pairs))


def read_head(head_ids: Sequence[int], start: Pass, temper: Temper) -> Program[tuple[Pass, float]]:
    """Read what is finished of a typed prefix; return what stands behind it.

    Returns:
        The pass behind its last token, and its natural log-probability behind ``start``.
    """
    if not head_ids:
        return start, 0.0
    whole = yield from read(head_ids, start.state, "all")
    log_prob = sequence_log_prob(head_ids, start, whole, temper)
    return Pass(whole.log_probs[-1], whole.state), log_prob


def word_log_prob(
    tokenizer: Tokenizer,
    word: str,
    root: Pass,
    temper: Temper,
    *,
    begun: Sequence[int] = (),
    touching: bool = False,
) -> Program[float | None]:
    """Return a word's natural log-probability over all its spellings; None for no spelling.

    Args:
        tokenizer: Of the model that is asked.
        word: One word, or several.
        root: The pass behind what was written so far.
        temper: Applied to natural log-probabilities (V,) before they are used.
        begun: Tokens that are typed already: only spellings that go on from them count.
        touching: Only spellings count that touch what stands before them.
    """
    spellings = tokenizer.spellings(word)
    known = bool(spellings)
    if begun:
        ahead = len(begun)
        spellings = [ids for ids in spellings if len(ids) > ahead and (*ids[:ahead],) == (*begun,)]
    if touching:
        spellings = [ids for ids in spellings if tokenizer.pieces[ids[0]].startswith(_JOIN)]
    longer = [ids for ids in spellings if len(ids) > 1]
    passes = iter(
        (yield [Forward(ids[:-1], root.state, "all") for ids in longer]) if longer else []
    )
    total = -math.inf
    for ids in spellings:
        whole = next(passes) if len(ids) > 1 else Pass(root.log_probs[:0, None], root.state)
        total = np.logaddexp(total, sequence_log_prob(ids, root, whole, temper))
    return float(total) if known else None
