"""Exact softmax cross-entropy that never holds all logits.

The (N, V) logits of a step are the largest thing in training: 93 MB for 700 positions of 33k words
in float32, allocated, and read and written several times. Here a chunk of rows goes through
output layer, softmax and both backward products while it is in the cache; what stays are gradients
of the sizes of the inputs. The gradient of softmax cross-entropy needs no more than
the probabilities (Bishop 2006, eq. 4.109), so it is computed in the forward pass.
"""

from typing import Any

import torch
from torch import Tensor

from models.products import product

_CHUNK_BYTES = 32 * 2**20


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
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
            probabilities = torch.softmax(logits, dim=-1, out=logits)
            answer = probabilities.gather(1, answers)
            loss -= answer.float().clamp_min(1e-30).log().sum()
            gradient = probabilities.scatter_(1, answers, answer - 1).mul_(1 / rows)
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
            return grad_features * scale, grad_weight * scale, grad_bias * scale, None, None
        return grad_features, grad_weight, grad_bias, None, None


def fused_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the mean negative log-probability of ``targets``, in nats.

    Args:
        features: Input of the output layer, (N, E).
        weight: Output matrix, (V, E), float32.
        bias: Output bias, (V,), float32.
        targets: Token ids, (N,), int64, each in 0 … V - 1.
        dtype: In which the products are computed; the loss is summed in float32.
    """
    loss = _FusedCrossEntropy.apply(features, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
    assert isinstance(loss, Tensor)
    return loss
