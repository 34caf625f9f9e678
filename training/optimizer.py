"""AdamW and Muon, and the averaged weights."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.networks import Network
from training.device import multiplies_bfloat16
from training.muon import Muon
from training.recipe import OptimizerSettings


class JoinedOptimizer:
    """Several optimizers of one network, stepped together."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        """Join them; each keeps weights of its own."""
        self._optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of weights of all of them, with their settings."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """Update all weights by their gradients."""
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return what is remembered between steps, by name."""
        return {
            f"{place}.{weight}.{name}": tensor
            for place, optimizer in enumerate(self._optimizers)
            for weight, moments in optimizer.state_dict()["state"].items()
            for name, tensor in moments.items()
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state_tensors` returned."""
        for place, optimizer in enumerate(self._optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for path, tensor in tensors.items():
                owner, weight, name = path.split(".")
                if int(owner) == place:
                    moments.setdefault(int(weight), {})[name] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def build_optimizer(network: Network, settings: OptimizerSettings) -> JoinedOptimizer:
    """Return AdamW that decays matrices and leaves biases and norms alone, and Muon if asked for.

    Muon takes the matrices between the layers; embedding, output layer and vectors stay with AdamW
    (Jordan et al. 2024). Its steps have the size of AdamW's, so that one learning rate serves
    both; its products are bfloat16 where the device multiplies it natively, whatever those of the
    network are.
    """
    ends = {id(network.embedding.weight), id(network.output_weight)}
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    hidden = [p for p in matrices if settings.muon and id(p) not in ends]
    taken = {id(p) for p in hidden}
    adamw = torch.optim.AdamW(
        [
            {
                "params": [p for p in matrices if id(p) not in taken],
                "weight_decay": settings.weight_decay,
            },
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )
    if not hidden:
        return JoinedOptimizer(adamw)
    native = multiplies_bfloat16(hidden[0].device)
    muon = Muon(
        hidden,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        dtype=torch.bfloat16 if native else torch.float32,
    )
    return JoinedOptimizer(adamw, muon)


class AveragedWeights:
    """An average of a network's weights over the steps (Polyak & Juditsky 1992).

    It moves, exponentially, up to a step, and from there on all weights count alike. Early on it
    follows more closely, so that it does not remember the initial weights.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], decay: float, *, uniform_from: float = math.inf
    ) -> None:
        """Begin with a copy of the weights.

        Args:
            parameters: What to average.
            decay: Of the exponential average, per step; 0 keeps the weights themselves.
            uniform_from: Step (from 0) from which on all weights count alike.
        """
        self._live = list(parameters)
        self._decay, self._uniform_from = decay, uniform_from
        self.weights = [p.detach().clone() for p in self._live]

    def update(self, step: int) -> None:
        """Move the average towards the weights after optimizer step ``step`` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step)) if self._decay else 0.0
        if step >= self._uniform_from:
            counted = step - math.ceil(self._uniform_from)
            decay = counted / (counted + 1)
        live: list[Tensor] = [p.detach() for p in self._live]
        torch._foreach_lerp_(self.weights, live, 1 - decay)

    def swap(self) -> None:
        """Exchange the average and the weights; a second call exchanges them back."""
        for average, live in zip(self.weights, self._live, strict=True):
            kept = live.detach().clone()
            live.data.copy_(average)
            average.copy_(kept)
