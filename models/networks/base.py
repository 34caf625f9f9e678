"""The one signature that every network has, and what its state can do."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from models.networks.dropout import DropoutRates
from models.products import product

if TYPE_CHECKING:
    from models.networks.build import NetworkConfig


class State(ABC):
    """What was read so far, as programs hold it between their passes."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory that it takes beyond what it shares with the state it came from, in bytes."""

    def parts(self) -> Iterable[tuple[int, int]]:
        """Yield the identity and size, bytes, of each piece of memory, which others may share."""
        yield id(self), self.num_bytes


class BatchState(State):
    """What a network has read so far, for a batch of B texts."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Number B of texts."""

    @classmethod
    @abstractmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Join states along the batch; the texts may have been read to different lengths."""

    @abstractmethod
    def select(self, rows: Tensor) -> Self:
        """Return the texts at ``rows`` (N,), int64: split, repeat or reorder the batch."""

    @abstractmethod
    def reset(self, rows: Tensor) -> Self:
        """Return the state with nothing read where ``rows`` (B,), bool, is true."""

    @abstractmethod
    def detach(self) -> Self:
        """Return the state cut off from the graph of gradients."""

    def split(self) -> list[Self]:
        """Return one state a text."""
        return [self.select(torch.tensor([row])) for row in range(self.batch_size)]


class Network(nn.Module, ABC):
    """A language model's network.

    Attributes:
        config: The sizes it was built with.
        embedding: Token embedding, one row for every id that can be read.
        output_bias: Shape (V,).
        rates: Of dropout in training; of the configuration's one rate to begin with.
    """

    config: "NetworkConfig"
    embedding: nn.Embedding
    output_bias: nn.Parameter
    rates: DropoutRates
    vocab_size: int

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """Output matrix (V, E): the first V rows of the embedding where the two are tied."""

    @property
    @abstractmethod
    def context_length(self) -> int | None:
        """How many tokens back a position can see; None where the state has no fixed reach."""

    @abstractmethod
    def features(
        self, token_ids: Tensor, state: BatchState | None = None, begins: Tensor | None = None
    ) -> tuple[Tensor, BatchState]:
        """Return the input (B, T, E) of the output layer, and the state after ``token_ids``.

        Args:
            token_ids: Shape (B, T), int64.
            state: What was read before, or None at the start of a text.
            begins: Where a text begins, (B, T), bool: nothing before is seen from there on. A
                recurrent network heeds it at the first position; further on, BOS has to tell it.
        """

    @abstractmethod
    def initial_state(self, batch_size: int) -> BatchState:
        """Return the state before anything was read; the same as None."""

    def logits(self, features: Tensor) -> Tensor:
        """Return the output layer's logits (…, V) of ``features`` (…, E)."""
        if torch.is_grad_enabled():
            return nn.functional.linear(features, self.output_weight, self.output_bias)
        return product(features, self.output_weight, self.output_bias)

    def forward(
        self, token_ids: Tensor, state: BatchState | None = None
    ) -> tuple[Tensor, BatchState]:
        """Read ``token_ids`` after ``state``.

        Args:
            token_ids: Shape (B, T), int64.
            state: What was read before, or None at the start of a text.

        Returns:
            Logits (B, T, V) of the token after each position, and the state after the last.
        """
        features, state = self.features(token_ids, state)
        return self.logits(features), state
