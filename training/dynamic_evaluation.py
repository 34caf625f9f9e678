"""Dynamic evaluation: the network goes on learning from the text that it is measured on.

A segment is scored, and only then learnt from, by a step of gradient descent scaled by the root
mean square of each weight's gradient, with a pull back to the trained weights that is the stronger
the larger that gradient usually is (Krause et al. 2018, eqs. 8 and 9). The mean squares come from
text that the network was trained on.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from models.language_model import LanguageModel
from models.networks import BatchState, Network
from training.bounds import not_negative, positive

STATISTICS_SEGMENTS = 1000  # read for the mean squares


@dataclass(frozen=True, kw_only=True)
class DynamicSettings:
    """Of dynamic evaluation.

    Attributes:
        rate: Step size; a weight whose gradient is as large as usual, and large beside
            ``epsilon``, moves by so much.
        decay: Pull back to the trained weights, per segment: of the distance, times the weight's
            root mean square over the mean of all.
        epsilon: Added to the root mean squares, as a share of the mean of all.
        segment: Tokens scored before the network learns from them.
    """

    rate: float = 1e-4
    decay: float = 3e-3
    epsilon: float = 1.0
    segment: int = 20

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting out of range."""
        positive(self, "epsilon", "segment")
        not_negative(self, "rate", "decay")


RATES = (1e-4, 3e-4, 1e-3)
DECAYS = (1e-3, 5e-3)


def gradient_statistics(
    model: LanguageModel,
    documents: Iterable[np.ndarray],
    *,
    segment: int,
    segments: int = STATISTICS_SEGMENTS,
) -> list[Tensor]:
    """Return the root mean square of the gradient of every weight.

    Args:
        model: As in `score_dynamically`.
        documents: Of text that it was trained on, token ids (T,) each.
        segment: Tokens of a gradient.
        segments: Most gradients to take.

    Raises:
        ValueError: There are no tokens.
    """
    network = _learner(model)
    weights = list(network.parameters())
    squares = [torch.zeros_like(w) for w in weights]
    read = 0
    for log_probs in islice(_segments(network, model, documents, segment), segments):
        gradients = torch.autograd.grad(-log_probs.mean(), weights)
        torch._foreach_addcmul_(squares, gradients, gradients)
        read += 1
    if not read:
        raise ValueError("gradient statistics need a text with tokens")
    return [(square / read).sqrt_() for square in squares]


def score_dynamically(
    model: LanguageModel,
    documents: Iterable[np.ndarray],
    settings: DynamicSettings,
    statistics: Sequence[Tensor],
) -> Iterator[np.ndarray]:
    """Yield the natural log-probabilities of the tokens, in their order, float64.

    Args:
        model: Stays as it is; its calibration temperature applies.
        documents: Token ids (T,) of each, without BOS; what was learnt is kept from one to the
            next.
        settings: Of the learning.
        statistics: From `gradient_statistics`.
    """
    network = _learner(model)
    weights = list(network.parameters())
    trained = [w.detach().clone() for w in weights]
    mean = float(sum(r.sum() for r in statistics)) / sum(r.numel() for r in statistics)
    steps = [settings.rate / (r + settings.epsilon * mean + 1e-30) for r in statistics]
    decays = [(settings.decay / (mean + 1e-30) * r).clamp_(max=1.0) for r in statistics]
    for log_probs in _segments(network, model, documents, settings.segment):
        scored: np.ndarray = log_probs.detach().double().cpu().numpy()
        yield scored
        gradients = torch.autograd.grad(-log_probs.mean(), weights)
        with torch.no_grad():
            live = [w.data for w in weights]
            torch._foreach_lerp_(live, trained, decays)
            torch._foreach_addcmul_(live, gradients, steps, value=-1.0)


def _learner(model: LanguageModel) -> Network:
    """Return a copy of the network that learns, without dropout."""
    return copy.deepcopy(model.network).eval().requires_grad_(True)


def _segments(
    network: Network, model: LanguageModel, documents: Iterable[np.ndarray], length: int
) -> Iterator[Tensor]:
    """Yield the log-probabilities of a segment (T,), with their graph of gradients.

    The state goes on from before a step, as it does in training.
    """
    device = network.embedding.weight.device
    for document in documents:
        targets = torch.from_numpy(document.astype(np.int64)).to(device)
        inputs = torch.cat((targets.new_tensor([model.tokenizer.bos_id]), targets[:-1]))
        state: BatchState | None = None
        for part, answers in zip(
            torch.split(inputs, length), torch.split(targets, length), strict=True
        ):
            features, state = network.features(part[None], state)
            state = state.detach()
            log_probs = (network.logits(features[0]) / model.temperature).log_softmax(dim=-1)
            yield log_probs.gather(1, answers[:, None])[:, 0]
