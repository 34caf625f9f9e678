"""What a model says of a row of tokens, by one forward pass and nothing of the service."""

from collections.abc import Sequence

import numpy as np

from models.forward import Forward
from models.language_model import LanguageModel


def distributions(model: LanguageModel, token_ids: Sequence[int]) -> np.ndarray:
    """Return natural log-probabilities (T, V) of what follows each token, nothing read before."""
    (result,) = model.compute([Forward(list(token_ids), None, "all")])
    return result.log_probs.numpy()


def continuation_log_probs(model: LanguageModel, before: Sequence[int], after: Sequence[int]):
    """Return the natural log-probability of each token of ``after``, and whether each is argmax."""
    rows = distributions(model, [*before, *after])[len(before) - 1 : -1]
    picked = rows[np.arange(len(after)), list(after)]
    return picked, rows.argmax(axis=1) == np.array(after)


def greedy(model: LanguageModel, token_ids: Sequence[int], max_tokens: int) -> list[int]:
    """Return the most probable continuation, token by token; an end of sentence ends it."""
    found: list[int] = []
    unk_id, eos_id = model.tokenizer.unk_id, model.tokenizer.eos_id
    while len(found) < max_tokens and eos_id not in found:
        row = distributions(model, [*token_ids, *found])[-1].copy()
        if unk_id is not None:
            row[unk_id] = -np.inf
        found.append(int(row.argmax()))
    return found
