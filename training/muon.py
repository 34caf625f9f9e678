"""Muon: steps whose singular values are all alike (Jordan et al. 2024)."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Jordan et al. (2024): each iteration maps a singular value s to A s + B s^3 + C s^5, which takes
# all that are not tiny to somewhere between 0.7 and 1.2 in five rounds.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's), made orthogonal, scaled to the size of AdamW's steps; for matrices.

    torch has one too, whose products are bfloat16 everywhere: far slower than float32 on a
    processor that has to imitate it.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the steps.

        Args:
            parameters: Matrices, (rows, columns) each.
            lr: Step size; a step's root mean square is 0.2 of it (Liu et al. 2025, eq. 4).
            weight_decay: Decoupled, as AdamW's.
            momentum: Decay of the moment, per step.
            dtype: Of the products.
        """
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
                moment = self.state[weight]["momentum_buffer"]
                moment.lerp_(weight.grad, 1 - momentum)
                direction = orthogonal(weight.grad.lerp(moment, momentum).to(self._dtype))
                weight.mul_(1 - rate * group["weight_decay"])
                scale = 0.2 * math.sqrt(max(weight.shape))
                weight.add_(direction.to(weight.dtype), alpha=-rate * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return U V^T (m, n), nearly, of ``matrix`` (m, n) = U S V^T: Newton-Schulz iterations."""
    wide: Tensor = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / wide.norm().clamp(min=1e-7)  # so that no singular value is above 1
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    result: Tensor = x.mT if wide is not matrix else x
    return result
