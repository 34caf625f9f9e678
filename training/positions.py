"""Loss against the place in a text: how much what was read so far is worth, to each network."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.language_model import LanguageModel
from training.perplexity import logits_of, read_features
from training.running_text import read_running_text

SHORTEST = 128  # tokens of a document that is read
_EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_DOCUMENTS = 300


@dataclass(frozen=True)
class PositionLoss:
    """Mean loss of the tokens of some places.

    Attributes:
        first: Place of the first, tokens before it.
        last: Place of the last.
        nats: Per token, mean of the documents' means.
        half: Half of the mean's 95% interval, by the scatter of the documents.
    """

    first: int
    last: int
    nats: float
    half: float


def position_losses(
    model: LanguageModel, paths: Sequence[Path], *, documents: int = _DOCUMENTS, seed: int = 0
) -> list[PositionLoss]:
    """Return the loss by place, in buckets twice as wide each, as far as there is text.

    Args:
        model: At its calibration temperature.
        paths: Their documents of 128 tokens and more are read, each from its beginning.
        documents: Most of them, of each file, drawn at random.
        seed: Of the drawing.

    Raises:
        ValueError: No document is long enough, or a file is not UTF-8.
    """
    chosen: list[np.ndarray] = []
    for path in paths:
        long = [d for d in read_running_text(path, model.tokenizer).documents if len(d) >= SHORTEST]
        order = np.random.default_rng(seed).permutation(len(long))
        chosen += [long[i][: _EDGES[-1]] for i in order[:documents]]
    if not chosen:
        raise ValueError(f"no document has {SHORTEST} tokens")
    losses = [_losses(model, document) for document in chosen]
    found = []
    for first, end in pairwise(_EDGES):
        means = np.array([part[first:end].mean() for part in losses if len(part) >= end])
        if len(means) < 2:
            break
        half = 1.96 * float(means.std(ddof=1)) / len(means) ** 0.5
        found.append(PositionLoss(first, end - 1, float(means.mean()), half))
    return found


def _losses(model: LanguageModel, document: np.ndarray) -> np.ndarray:
    """Return the nats of each token of a document, (T,)."""
    parts = []
    for features, _, targets in read_features(model, [document]):
        for logits, answers in logits_of(model.network, features, targets):
            log_probs = logits.div_(model.temperature).log_softmax(dim=-1)
            parts.append(-log_probs.gather(1, answers[:, None])[:, 0].cpu().numpy())
    return np.concatenate(parts)
