"""Dropout, at a rate of its own for each place of a network; it acts in training only.

Where units are dropped, the rest is scaled up, so that nothing changes on average and a trained
network needs no trace of it (Srivastava et al. 2014).
"""

from dataclasses import astuple, dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class DropoutRates:
    """Shares of units dropped, each at least 0 and below 1.

    Attributes:
        words: Rows of the embedding matrix: whole words, for all of a step's texts.
        input: Units of the embedded tokens.
        hidden: Units between recurrent layers, or behind a Transformer's attention and
            feed-forward.
        output: Units of what the last layer hands on.
        weights: Hidden-to-hidden weights of recurrent layers.
        attention: Shares of attention.
    """

    words: float = 0.0
    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    weights: float = 0.0
    attention: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is dropped."""
        return any(astuple(self))

    def with_units(self, rate: float) -> Self:
        """Return the rates with ``rate`` for units at input and between layers."""
        return replace(self, input=rate, hidden=rate)


def drop(x: Tensor, rate: float) -> Tensor:
    """Return ``x`` with a share ``rate`` of its elements dropped, each for itself.

    On a CPU torch draws a double for each element, which takes a tenth of a Transformer's training:
    here four elements share 64 random bits, and the share is a whole number of 65,536ths.
    """
    if not rate:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    drawn = bits.view(torch.int16)[: x.numel()].view(x.shape)  # -32,768 … 32,767
    kept = drawn >= round(rate * (1 << 16)) - (1 << 15)
    return x * kept.to(x.dtype).div_(1 - rate)


def drop_locked(x: Tensor, rate: float) -> Tensor:
    """Return ``x`` (B, T, D) with units dropped, the same at every step (Gal & Ghahramani 2016)."""
    if not rate:
        return x
    mask = drop(x.new_ones(x.size(0), 1, x.size(2)), rate)  # (B, 1, D)
    return x * mask
