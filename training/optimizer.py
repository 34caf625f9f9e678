"""AdamW over two groups of weights, the course of its step size, and the averaged weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.recipe import OptimizerSettings


def build_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and leaves biases and norms alone."""
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return the step size of optimizer step ``step`` (from 0) of ``steps``.

    Linear warm-up, a constant stretch, linear decay (Hu et al. 2024, "WSD"): unlike a cosine, a run
    can be prolonged as long as the decay has not begun.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    decay_steps = max(1.0, settings.decay_share * steps)
    left = min(1.0, max(0.0, (steps - step) / decay_steps))
    return settings.learning_rate * warm * (settings.final_rate + (1 - settings.final_rate) * left)


class AveragedWeights:
    """An exponential moving average of a network's weights (Polyak & Juditsky 1992).

    Early on the average follows more closely, so that it does not remember the initial weights.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        """Begin with a copy of the weights."""
        self._live = list(parameters)
        self._decay = decay
        self.weights = [p.detach().clone() for p in self._live]

    def update(self, step: int) -> None:
        """Move the average towards the weights after optimizer step ``step`` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step)) if self._decay else 0.0
        live: list[Tensor] = [p.detach() for p in self._live]
        torch._foreach_lerp_(self.weights, live, 1 - decay)

    def swap(self) -> None:
        """Exchange the average and the weights; a second call exchanges them back."""
        for average, live in zip(self.weights, self._live, strict=True):
            kept = live.detach().clone()
            live.data.copy_(average)
            average.copy_(kept)
