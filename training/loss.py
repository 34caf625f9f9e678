"""Exact softmax cross-entropy that never holds all logits.

The (N, V) logits of a step are the largest thing in training: 93 MB for 700 positions of 33k words
in float32, allocated, and read and written several times. Here a chunk of rows goes through
output layer, softmax and both backward products while it is in the cache; what stays are gradients
of the sizes of the inputs. The gradient of softmax cross-entropy needs no more than
the probabilities (Bishop 2006, eq. 4.109), so it is computed in the forward pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.products import product

_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class SoftTargets:
    """What a teacher expects at each position, as its output layer's inputs and weights.

    Attributes:
        features: Input of the teacher's output layer, (N, F).
        weight: Its output matrix, (V, F), float32.
        bias: Its output bias, (V,), float32.
        share: Weight of the teacher's probabilities in the loss; the rest is the targets'.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    share: float

    def probabilities(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return the teacher's probabilities at some positions, (C, V), float32."""
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        logits = product(self.features[rows].to(dtype), weight, bias).float()
        return torch.softmax(logits, dim=-1, out=logits)


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        soft: SoftTargets | None,
    ) -> Tensor:
        rows, vocab_size = len(features), len(weight)
        x, w, b = features.detach().to(dtype), weight.detach().to(dtype), bias.detach().to(dtype)
        chunk = max(1, min(rows, _CHUNK_BYTES // (vocab_size * x.element_size())))
        grad_features = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight)
        grad_bias = torch.zeros_like(bias)
        loss = features.new_zeros((), dtype=torch.float32)
        for start in range(0, rows, chunk):
            part, answers = x[start : start + chunk], targets[start : start + chunk, None]
            logits = product(part, w, b)  # (C, V)
            if soft is None:
                probabilities = torch.softmax(logits, dim=-1, out=logits)
                answer = probabilities.gather(1, answers)
                loss -= answer.float().clamp_min(1e-30).log().sum()
                gradient = probabilities.scatter_(1, answers, answer - 1).mul_(1 / rows)
            else:
                log_probs = torch.log_softmax(logits.float(), dim=-1)
                expected = soft.probabilities(slice(start, start + chunk), dtype).mul_(soft.share)
                expected.scatter_add_(1, answers, expected.new_full(answers.shape, 1 - soft.share))
                loss -= torch.dot(expected.flatten(), log_probs.flatten())
                gradient = log_probs.exp_().sub_(expected).mul_(1 / rows).to(dtype)
            grad_features[start : start + chunk] = product(gradient, w.T)
            grad_weight += product(gradient.T, part.T)
            grad_bias += gradient.sum(0, dtype=bias.dtype)
        ctx.save_for_backward(grad_features.to(features.dtype), grad_weight, grad_bias)
        return loss / rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_features, grad_weight, grad_bias = ctx.saved_tensors
        scale = grads[0]
        # What is on a GPU isn't asked: that would wait for it.
        if scale.device.type != "cpu" or float(scale) != 1.0:
            return grad_features * scale, grad_weight * scale, grad_bias * scale, None, None, None
        return grad_features, grad_weight, grad_bias, None, None, None


def fused_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    soft: SoftTargets | None = None,
) -> Tensor:
    """Return the mean negative log-probability of ``targets``, in nats.

    With soft targets it is the cross-entropy with the mixture of the two (Hinton et al. 2015,
    "Distilling the knowledge in a neural network", at the temperature 1).

    Args:
        features: Input of the output layer, (N, E).
        weight: Output matrix, (V, E), float32.
        bias: Output bias, (V,), float32.
        targets: Token ids, (N,), int64, each in 0 … V - 1.
        dtype: In which the products are computed; the loss is summed in float32.
        soft: A teacher's part of the targets.
    """
    loss = _FusedCrossEntropy.apply(features, weight, bias, targets, dtype, soft)  # type: ignore[no-untyped-call]
    assert isinstance(loss, Tensor)
    return loss
