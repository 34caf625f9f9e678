"""Recurrent networks: Elman (1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014).

Dropout stands before, between and after the layers (Zaremba et al. 2014) and drops the same units
at every step of a segment (Gal & Ghahramani 2016); the output layer can share its weights with the
embedding (Press & Wolf 2017).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn

from models.networks.base import BatchState, Network
from models.networks.dropout import DropoutRates, drop_locked
from models.networks.weight_drop import drop_weights
from models.networks.word_dropout import embed


@dataclass(frozen=True)
class RecurrentConfig:
    """Sizes of a recurrent network.

    Attributes:
        kind: ``rnn``, ``gru`` or ``lstm``.
        vocab_size: Token ids that can be predicted, V.
        num_ids: Token ids that can be read, at least V.
        embedding_size: Width E of embedding and output layer, units.
        hidden_size: Width D of the recurrent layers, units.
        num_layers: Recurrent layers, L.
        dropout: Share of units dropped before, between and after the layers in training.
        tied: Embedding and output layer share their weights.
    """

    kind: Literal["rnn", "gru", "lstm"]
    vocab_size: int
    num_ids: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    dropout: float = 0.0
    tied: bool = True

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every weight's name and shape."""
        width, hidden = self.embedding_size, self.hidden_size
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.kind] * hidden
        yield "embedding.weight", (self.num_ids, width)
        yield "output_bias", (self.vocab_size,)
        if not self.tied:
            yield "output", (self.vocab_size, width)
        if hidden != width:
            yield "projection.weight", (width, hidden)
            yield "projection.bias", (width,)
        for layer in range(self.num_layers):
            yield f"layers.weight_ih_l{layer}", (gates, hidden if layer else width)
            yield f"layers.weight_hh_l{layer}", (gates, hidden)
            yield f"layers.bias_ih_l{layer}", (gates,)
            yield f"layers.bias_hh_l{layer}", (gates,)


@dataclass(frozen=True)
class RecurrentState(BatchState):
    """Hidden vectors, and for the LSTM cell vectors, each (B, L, D)."""

    vectors: tuple[Tensor, ...]

    @property
    def batch_size(self) -> int:
        """Number B of texts."""
        return self.vectors[0].size(0)

    @property
    def num_bytes(self) -> int:
        """Memory that the vectors take, in bytes."""
        return sum(v.numel() * v.element_size() for v in self.vectors)

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Join states along the batch."""
        parts = zip(*(state.vectors for state in states), strict=True)
        return cls(tuple(torch.cat(part) for part in parts))

    def select(self, rows: Tensor) -> Self:
        """Return the texts at ``rows`` (N,)."""
        return type(self)(tuple(v.index_select(0, rows.to(v.device)) for v in self.vectors))

    def reset(self, rows: Tensor) -> Self:
        """Return zeros where ``rows`` (B,) is true."""
        keep = ~rows[:, None, None]
        return type(self)(tuple(v * keep for v in self.vectors))

    def detach(self) -> Self:
        """Cut the state off from the graph of gradients."""
        return type(self)(tuple(v.detach() for v in self.vectors))


class RecurrentNetwork(Network):
    """Embedding, recurrent layers, projection back to the embedding's width, output layer."""

    def __init__(self, config: RecurrentConfig) -> None:
        """Build the layers with fresh weights."""
        super().__init__()
        self.config: RecurrentConfig = config
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.num_ids, config.embedding_size)
        layers = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[config.kind]
        self.layers = cast(nn.RNNBase, layers)(
            config.embedding_size,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
        )
        self.rates = DropoutRates(output=config.dropout).with_units(config.dropout)
        self.projection = (
            nn.Identity()
            if config.hidden_size == config.embedding_size
            else nn.Linear(config.hidden_size, config.embedding_size)
        )
        if not config.tied:
            self.output = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size))
            nn.init.normal_(self.output, std=config.embedding_size**-0.5)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        if config.kind == "lstm":
            for name, bias in self.layers.named_parameters():
                if name.startswith("bias_ih"):  # gates i, f, g, o: begin by remembering
                    nn.init.ones_(bias.data[config.hidden_size : 2 * config.hidden_size])

    @property
    def output_weight(self) -> Tensor:
        """Output matrix (V, E)."""
        return self.embedding.weight[: self.vocab_size] if self.config.tied else self.output

    @property
    def context_length(self) -> None:
        """None: the state reaches back as far as it remembers."""
        return None

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Return zeros."""
        shape = batch_size, self.config.num_layers, self.config.hidden_size
        zeros = self.embedding.weight.new_zeros(shape)
        return RecurrentState((zeros, zeros) if self.config.kind == "lstm" else (zeros,))

    def features(
        self, token_ids: Tensor, state: BatchState | None = None, begins: Tensor | None = None
    ) -> tuple[Tensor, BatchState]:
        """Return the output layer's input (B, T, E) and the state after ``token_ids``."""
        state = state or self.initial_state(token_ids.size(0))
        assert isinstance(state, RecurrentState)
        state = state if begins is None else state.reset(begins[:, 0])
        vectors = [v.transpose(0, 1).contiguous() for v in state.vectors]  # (L, B, D)
        rates = self.rates if self.training else DropoutRates()
        x = drop_locked(embed(self.embedding, token_ids, rates.words), rates.input)  # (B, T, E)
        if rates:
            x, after = self._layer_by_layer(x, vectors, rates)
        else:
            x, after = self.layers(x, tuple(vectors) if len(vectors) > 1 else vectors[0])
            after = after if isinstance(after, tuple) else (after,)
        x = self.projection(drop_locked(x, rates.output))  # (B, T, D) -> (B, T, E)
        return x, RecurrentState(tuple(v.transpose(0, 1) for v in after))

    def _layer_by_layer(
        self, x: Tensor, vectors: Sequence[Tensor], rates: DropoutRates
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what ``self.layers`` returns, with dropout between and inside the layers.

        Args:
            x: Input of the first layer, (B, T, E).
            vectors: Hidden vectors, and for the LSTM cell vectors, each (L, B, D).
            rates: Of dropout.
        """
        kernel = "rnn_tanh" if self.config.kind == "rnn" else self.config.kind
        after = []
        for layer, all_weights in enumerate(self.layers.all_weights):
            x = drop_locked(x, rates.hidden) if layer else x
            weights = drop_weights(all_weights, rates.weights)
            before = [v[layer : layer + 1] for v in vectors]
            state = before if self.config.kind == "lstm" else before[0]
            # Biases, 1 layer, its own dropout, training, bidirectional, batch first.
            settings = True, 1, 0.0, True, False, True
            x, *vectors_after = getattr(torch._VF, kernel)(x, state, weights, *settings)
            after.append(vectors_after)
        return x, tuple(torch.cat(layers) for layers in zip(*after, strict=True))
