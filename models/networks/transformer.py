"""A decoder-only Transformer (Vaswani et al. 2017; Radford et al. 2019).

Pre-norm (Xiong et al. 2020), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020), tied
embedding. LayerNorm rather than RMSNorm: it is one fused kernel on a CPU. Attention reaches back
over the last ``context_length`` tokens, whether they stand in the same call or in the state, so a
text read in pieces gives the numbers of the text read whole.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.base import BatchState, Network
from models.networks.dropout import DropoutRates, drop
from models.networks.word_dropout import embed


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Transformer.

    Attributes:
        kind: ``transformer``.
        vocab_size: Token ids that can be predicted, V.
        num_ids: Token ids that can be read, at least V.
        embedding_size: Model width D, units.
        num_layers: Blocks, L.
        num_heads: Attention heads, H; each D / H wide.
        feedforward_size: Inner width of the feed-forward layer, units.
        context_length: How far attention reaches back, tokens, the reading position included.
        dropout: Share of units dropped after embedding, attention and feed-forward in training.
        tied: Embedding and output layer share their weights.
    """

    kind: Literal["transformer"]
    vocab_size: int
    num_ids: int
    embedding_size: int
    num_layers: int
    num_heads: int
    feedforward_size: int
    context_length: int
    dropout: float = 0.0
    tied: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a width that does not divide into heads of even width."""
        if self.embedding_size % (2 * self.num_heads):
            raise ValueError(
                f"embedding_size {self.embedding_size} must be a multiple of "
                f"2 x num_heads {self.num_heads}"
            )

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every weight's name and shape."""
        width, inner = self.embedding_size, self.feedforward_size
        yield "embedding.weight", (self.num_ids, width)
        yield "output_bias", (self.vocab_size,)
        yield "norm.weight", (width,)
        if not self.tied:
            yield "output", (self.vocab_size, width)
        for layer in range(self.num_layers):
            yield f"blocks.{layer}.attention_norm.weight", (width,)
            yield f"blocks.{layer}.qkv.weight", (3 * width, width)
            yield f"blocks.{layer}.attention_output.weight", (width, width)
            yield f"blocks.{layer}.feedforward_norm.weight", (width,)
            yield f"blocks.{layer}.feedforward_input.weight", (2 * inner, width)
            yield f"blocks.{layer}.feedforward_output.weight", (width, inner)


@dataclass(frozen=True)
class TransformerState(BatchState):
    """Keys and values of the last positions, right-aligned.

    Attributes:
        keys: Rotated keys, (B, L, H, P, D / H).
        values: Same shape.
        lengths: How many of the P positions were read, (B,), int64; the rest, on the left, is
            padding.
        positions: Tokens read in all, (B,), int64: the rotary position of the next one.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    positions: Tensor

    @property
    def batch_size(self) -> int:
        """Number B of texts."""
        return self.keys.size(0)

    @property
    def num_bytes(self) -> int:
        """Memory that keys and values take, in bytes."""
        return 2 * self.keys.numel() * self.keys.element_size()

    @property
    def ragged(self) -> bool:
        """Whether any text has padding."""
        return bool((self.lengths < self.keys.size(3)).any())

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Join states along the batch; shorter ones are padded on the left."""
        longest = max(state.keys.size(3) for state in states)
        padded = [[_pad_left(kv, longest) for kv in (s.keys, s.values)] for s in states]
        keys, values = (torch.cat(kv) for kv in zip(*padded, strict=True))
        lengths = torch.cat([state.lengths for state in states])
        return cls(keys, values, lengths, torch.cat([state.positions for state in states]))

    def select(self, rows: Tensor) -> Self:
        """Return the texts at ``rows`` (N,) without the padding that all of them have."""
        rows = rows.to(self.keys.device)
        lengths = self.lengths[rows]
        start = self.keys.size(3) - int(lengths.max()) if len(rows) else 0
        keys, values = self.keys[rows, :, :, start:], self.values[rows, :, :, start:]
        return type(self)(keys, values, lengths, self.positions[rows])

    def reset(self, rows: Tensor) -> Self:
        """Return the state with everything padding where ``rows`` (B,) is true."""
        lengths = self.lengths.masked_fill(rows, 0)
        return type(self)(self.keys, self.values, lengths, self.positions.masked_fill(rows, 0))

    def detach(self) -> Self:
        """Cut the state off from the graph of gradients."""
        return type(self)(self.keys.detach(), self.values.detach(), self.lengths, self.positions)


def _pad_left(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0, length - x.size(3), 0))


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of units by their position's angles (Su et al. 2021, eq. 15).

    Args:
        x: Queries and keys (2, B, H, T, D / H); unit i pairs with unit i + D / 2H.
        angles: Cosines and sines (2, B, 1, T, D / 2H).
    """
    cos, sin = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Return scaled dot-product attention (B, H, T, D / H) (Vaswani et al. 2017, eq. 1).

    Args:
        q: Queries, (B, H, T, D / H).
        k: Keys, (B, H, P + T, D / H).
        v: Values, like the keys.
        mask: Which keys each query sees, (T, P + T) or (B, 1, T, P + T), bool; None for all.
        dropout: Share of the weights of attention dropped.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    # With gradients on a CPU, plain products take half the time of torch's own kernel.
    scores = (q * q.size(-1) ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, P + T)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -math.inf)
        scores = scores + hidden
    shares = drop(scores.softmax(dim=-1), dropout)
    attended: Tensor = shares.to(v.dtype) @ v
    return attended


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        """Build the layers with fresh weights."""
        super().__init__()
        width, inner = config.embedding_size, config.feedforward_size
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_output = nn.Linear(width, width, bias=False)
        self.feedforward_norm = nn.LayerNorm(width, bias=False)
        self.feedforward_input = nn.Linear(width, 2 * inner, bias=False)
        self.feedforward_output = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor] | None,
        angles: Tensor,
        mask: Tensor | None,
        rates: DropoutRates,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the residual stream (B, T, D) and all keys and values (B, H, P + T, D / H)."""
        batch, time, width = x.shape
        qk, v = self.heads(self.attention_norm(x))
        q, k = rotate(qk, angles.to(qk.dtype))
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        attended = attend(q, k, v, mask, rates.attention)  # (B, H, T, D / H)
        attended = attended.transpose(1, 2).reshape(batch, time, width)
        x = x + drop(self.attention_output(attended), rates.hidden)
        x = x + drop(self.feedforward(self.feedforward_norm(x)), rates.hidden)
        return x, k, v

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys (2, B, H, T, D / H), and values (B, H, T, D / H), of ``x``."""
        batch, time, _ = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.num_heads, -1)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, T, D / H)
        return qkv[:2], qkv[2]

    def feedforward(self, x: Tensor) -> Tensor:
        """Return SwiGLU (B, T, D) of ``x`` (Shazeer 2020, eq. 6)."""
        gate, up = self.feedforward_input(x).chunk(2, dim=-1)
        output: Tensor = self.feedforward_output(F.silu(gate) * up)
        return output


class Transformer(Network):
    """Embedding, blocks, norm, output layer."""

    frequencies: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        """Build the layers with fresh weights."""
        super().__init__()
        self.config: TransformerConfig = config
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.num_ids, config.embedding_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.embedding_size, bias=False)
        self.rates = DropoutRates().with_units(config.dropout)
        if not config.tied:
            self.output = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size))
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        half = config.embedding_size // config.num_heads // 2
        frequencies = 10_000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Radford et al. 2019: what is added to the residual stream begins smaller.
                added = name.endswith(("attention_output.weight", "feedforward_output.weight"))
                std = 0.02 / (2 * config.num_layers) ** 0.5 if added else 0.02
                nn.init.normal_(parameter, std=std)

    @property
    def output_weight(self) -> Tensor:
        """Output matrix (V, D)."""
        return self.embedding.weight[: self.vocab_size] if self.config.tied else self.output

    @property
    def context_length(self) -> int:
        """How far attention reaches back, tokens."""
        return self.config.context_length

    def initial_state(self, batch_size: int) -> TransformerState:
        """Return a state of no positions."""
        config = self.config
        head_width = config.embedding_size // config.num_heads
        shape = batch_size, config.num_layers, config.num_heads, 0, head_width
        none = self.embedding.weight.new_zeros(shape)
        zeros = torch.zeros(batch_size, dtype=torch.int64, device=none.device)
        return TransformerState(none, none, zeros, zeros)

    def features(
        self, token_ids: Tensor, state: BatchState | None = None, begins: Tensor | None = None
    ) -> tuple[Tensor, BatchState]:
        """Return the output layer's input (B, T, D) and the state after ``token_ids``."""
        batch, time = token_ids.shape
        state = state or self.initial_state(batch)
        assert isinstance(state, TransformerState)
        past = state.keys.size(3)
        rates = self.rates if self.training else DropoutRates()
        x = drop(embed(self.embedding, token_ids, rates.words), rates.input)  # (B, T, D)
        steps = torch.arange(time, device=x.device)
        angles = self._angles(state.positions[:, None] + steps).to(x.dtype)
        mask = self._mask(state, time, begins)
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            before = (state.keys[:, i], state.values[:, i]) if past else None
            x, k, v = block(x, before, angles, mask, rates)
            keys.append(k)
            values.append(v)
        kept = min(past + time, self.config.context_length - 1)
        start = past + time - kept
        lengths = state.lengths + time
        if begins is not None:
            last = (steps * begins).amax(dim=1)  # (B,): where the last text begins
            lengths = torch.where(begins.any(dim=1), time - last, lengths)
        after = TransformerState(
            torch.stack([k[:, :, start:] for k in keys], dim=1),
            torch.stack([v[:, :, start:] for v in values], dim=1),
            lengths.clamp(max=kept),
            state.positions + time,
        )
        return drop(self.norm(x), rates.output), after

    def _angles(self, positions: Tensor) -> Tensor:
        """Return cosines and sines (2, B, 1, T, D / 2H) of ``positions`` (B, T)."""
        angles = positions[:, None, :, None] * self.frequencies
        return torch.stack((angles.cos(), angles.sin()))

    def _mask(self, state: TransformerState, time: int, begins: Tensor | None) -> Tensor | None:
        """Return which keys each query sees, (T, P + T) or (B, 1, T, P + T); None for all."""
        past = state.keys.size(3)
        ragged = state.ragged
        if begins is None and time == 1 and not ragged and past < self.config.context_length:
            return None
        device = state.keys.device
        key = torch.arange(past + time, device=device)
        query = torch.arange(past, past + time, device=device)[:, None]
        seen = (key <= query) & (key > query - self.config.context_length)  # (T, P + T)
        if ragged:
            read = key >= (past - state.lengths)[:, None, None, None]  # (B, 1, 1, P + T)
            seen = seen & read
        if begins is not None:
            texts = F.pad(begins.cumsum(dim=1), (past, 0))[:, None]  # (B, 1, P + T): which one
            seen = seen & (texts[..., None, :] == texts[..., past:, None])
        return seen
