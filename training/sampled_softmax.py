"""Softmax cross-entropy over some of the words, for vocabularies that cost more than the network.

Importance sampling of the partition function (Bengio & Senécal 2008), in the batched form of Jean
et al. (2015): every position of a step shares its candidates. Those are the most frequent words
and the step's own targets, which count exactly, and words drawn from the rest, whose logits are
corrected by the logarithm of how often each was to be expected. So the sum of exponentials is
unbiased whatever was drawn, and the loss, its logarithm, falls short of the exact one by less the
more is drawn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.loss import fused_cross_entropy

_FREQUENT_SHARE = 0.25  # of the samples: words that are candidates at every step
_FLATTENED = 0.75  # power of the frequencies that the rest is drawn by (Mikolov et al. 2013)


@dataclass(frozen=True)
class Candidates:
    """Words that a step's softmax runs over.

    Attributes:
        token_ids: Each once, (C,), int64.
        log_weights: Logarithm of how many words each stands for, (C,), float32; 0 for itself.
        targets: Place of each target among the candidates, (N,), int64.
    """

    token_ids: Tensor
    log_weights: Tensor
    targets: Tensor


class CandidateSampler:
    """Draws candidates by the words' frequencies in a corpus."""

    def __init__(self, tokens: np.ndarray, vocab_size: int, samples: int) -> None:
        """Count the words.

        Args:
            tokens: Of the corpus, (N,).
            vocab_size: Words V.
            samples: Frequent and drawn words together; at least V makes all of them frequent.
        """
        counts = torch.from_numpy(np.bincount(tokens, minlength=vocab_size)[:vocab_size])
        frequent = min(vocab_size, samples if samples >= vocab_size else _frequent(samples))
        order = counts.argsort(descending=True, stable=True)
        self.frequent = order[:frequent]  # (F,)
        self.draws = samples - frequent if frequent < vocab_size else 0
        weights = (counts + 1.0) ** _FLATTENED
        weights[self.frequent] = 0.0
        self.probabilities = weights / weights.sum()  # (V,)
        self._cumulative = self.probabilities.double().cumsum(0)
        self._cumulative /= self._cumulative[-1].clone()

    def draw(self, targets: Tensor, *, generator: torch.Generator | None = None) -> Candidates:
        """Return the candidates of a step.

        Args:
            targets: Token ids, (N,), int64.
            generator: Of the drawing; by default torch's own.
        """
        exact = torch.from_numpy(np.union1d(self.frequent, targets.cpu()))  # (K,), sorted
        uniform = torch.rand(self.draws, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(self._cumulative, uniform, right=True)
        drawn = drawn.clamp_(max=len(self.probabilities) - 1)
        drawn, times = map(torch.from_numpy, np.unique(drawn, return_counts=True))
        other = ~torch.isin(drawn, exact)
        drawn, times = drawn[other], times[other]
        expected = self.draws * self.probabilities[drawn]
        log_weights = torch.cat((torch.zeros(len(exact)), (times / expected).log()))
        device = targets.device
        return Candidates(
            torch.cat((exact, drawn)).to(device),
            log_weights.float().to(device),
            torch.searchsorted(exact.to(device), targets),
        )


def _frequent(samples: int) -> int:
    return int(_FREQUENT_SHARE * samples)


def sampled_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    candidates: Candidates,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the mean negative log-probability of the targets, estimated, in nats.

    Args:
        features: Input of the output layer, (N, E).
        weight: Output matrix, (V, E), float32.
        bias: Output bias, (V,), float32.
        candidates: Of these targets.
        dtype: In which the products are computed.
    """
    ids = candidates.token_ids
    return fused_cross_entropy(
        features,
        weight.index_select(0, ids),
        bias.index_select(0, ids) + candidates.log_weights,
        candidates.targets,
        dtype=dtype,
    )
