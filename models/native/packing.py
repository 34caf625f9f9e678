"""From a network in torch to a model of the library: weights as bytes, in the order of reading."""

import ctypes
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models.errors import BackendUnavailableError
from models.native.library import Sizes, load_library
from models.networks import Network, RecurrentNetwork, Transformer
from models.networks.transformer import Block

_KINDS = ("rnn", "gru", "lstm", "transformer")
_LANES, _PANEL = 16, 64  # outputs of a block, and of a panel of four
_IMPOSSIBLE = -1e30  # logit of a word that pads the vocabulary
_MOST_BLOCK = 8  # positions
_BLOCK_BYTES = 1 << 16  # what a block of keys and values should fit in
FINE = 2048  # words, the first, whose output weights have 16 bits: the most frequent ones
_MOST_WINDOW = 1 << 20  # positions
_ALONE = 8_000_000  # multiplications that one thread does sooner than a sleeping one wakes


def sizes_of(network: Network) -> Sizes:
    """Return the sizes of a network, for the library.

    Raises:
        BackendUnavailableError: Attention reaches farther back than the library has room for.
    """
    config = network.config
    sizes = Sizes(
        kind=_KINDS.index(config.kind),
        vocab_size=config.vocab_size,
        num_ids=config.num_ids,
        width=config.embedding_size,
        layers=config.num_layers,
        alone=_ALONE,
    )
    if isinstance(network, Transformer):
        transformer = network.config
        if transformer.context_length > _MOST_WINDOW:
            raise BackendUnavailableError(f"int8 reaches back {_MOST_WINDOW} tokens at most")
        sizes.heads, sizes.inner = transformer.num_heads, transformer.feedforward_size
        sizes.window, sizes.block = transformer.context_length, _MOST_BLOCK
        # A step that copies a block should stay cheap, and be worth keeping.
        while sizes.block > 1 and block_bytes(sizes) > _BLOCK_BYTES:
            sizes.block //= 2
    elif isinstance(network, RecurrentNetwork):
        sizes.hidden = network.config.hidden_size
        sizes.projected = sizes.hidden != sizes.width
    return sizes


def block_bytes(sizes: Sizes) -> int:
    """Return the bytes of a block of keys and values."""
    found: int = load_library().nextword_block_bytes(ctypes.byref(sizes))
    return found


def pack(network: Network, sizes: Sizes, temperature: float) -> tuple[int, list[Tensor]]:
    """Return the address of a model with the network's weights, and tensors it reads from."""
    embedding = _plain(network.embedding.weight)
    model: int = load_library().nextword_model_new(ctypes.byref(sizes), embedding.data_ptr())
    if isinstance(network, Transformer):
        matrices = _pack_transformer(model, network)
    else:
        assert isinstance(network, RecurrentNetwork)
        matrices = _pack_recurrent(model, network)
    weight, words = network.output_weight, np.arange(sizes.vocab_size)
    bias, factor = network.output_bias, 1 / temperature
    _pack_matrix(model, matrices, weight, words, bias=bias, factor=factor, empty=_IMPOSSIBLE)
    _pack_matrix(model, matrices + 1, weight, words[:FINE], factor=factor, rest=True)
    return model, [embedding]


def _plain(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float32).contiguous()


def _pack_matrix(
    model: int,
    index: int,
    weight: Tensor,
    rows: np.ndarray,
    *,
    columns: np.ndarray | None = None,
    bias: Tensor | None = None,
    factor: float = 1.0,
    empty: float = 0.0,
    wide: bool = True,
    rest: bool = False,
) -> None:
    """Pack ``weight`` (M, K) with its ``rows`` and ``columns`` in this order, -1 for padding.

    Or, with ``rest``, what was lost when they were packed. Activations have 16 bits where they are
    ``wide``, else 8.
    """
    weight, bias = _plain(weight), None if bias is None else _plain(bias)
    rows = rows.astype(np.int32)
    columns = None if columns is None else columns.astype(np.int32)
    load_library().nextword_model_pack(
        model,
        index,
        weight.data_ptr(),
        weight.size(1),
        rows.ctypes.data,
        len(rows),
        None if columns is None else columns.ctypes.data,
        weight.size(1) if columns is None else len(columns),
        None if bias is None else bias.data_ptr(),
        factor,
        empty,
        wide,
        rest,
    )


def _pack_recurrent(model: int, network: RecurrentNetwork) -> int:
    """Pack the layers and the projection; return how many matrices that makes."""
    config, parameters = network.config, dict(network.layers.named_parameters())
    order = _gates(config.hidden_size, {"rnn": 1, "gru": 3, "lstm": 4}[config.kind])
    for layer in range(config.num_layers):
        for i, source in enumerate(("ih", "hh")):
            weight, bias = (parameters[f"{part}_{source}_l{layer}"] for part in ("weight", "bias"))
            _pack_matrix(model, 2 * layer + i, weight, order, bias=bias)
    index = 2 * config.num_layers
    if not isinstance(network.projection, torch.nn.Linear):
        return index
    projection = network.projection
    rows = np.arange(config.embedding_size)
    _pack_matrix(model, index, projection.weight, rows, bias=projection.bias)
    _pack_matrix(model, index + 1, projection.weight, rows, rest=True)
    return index + 2


def _gates(hidden: int, gates: int) -> np.ndarray:
    """Return the order of rows that puts the gates of 16 units into a panel, a block each."""
    if gates == 1:
        return np.arange(hidden)
    return _interleave(np.arange(gates * hidden).reshape(gates, hidden), _LANES, _PANEL)


def _interleave(parts: np.ndarray, units: int, panel: int) -> np.ndarray:
    """Cut each of ``parts`` (N, M) into ``units``, and put pieces of all side by side in panels."""
    count, width = parts.shape
    panels = -(-width // units)
    order = np.full((panels, panel // units, units), -1)  # (panels, pieces of a panel, units)
    padded = np.full((count, panels * units), -1)
    padded[:, :width] = parts
    order[:, :count] = padded.reshape(count, panels, units).transpose(1, 0, 2)
    return order.reshape(-1)


def _pack_transformer(model: int, network: Transformer) -> int:
    """Pack the blocks and their norms; return how many matrices that makes."""
    config = network.config
    width, inner = config.embedding_size, config.feedforward_size
    heads = np.arange(width).reshape(config.num_heads, -1)
    wide = -(-heads.shape[1] // _LANES) * _LANES
    padded = np.full((config.num_heads, wide), -1)  # each head padded to whole vectors
    padded[:, : heads.shape[1]] = heads
    one = padded.reshape(-1)
    qkv = np.concatenate([np.where(one < 0, -1, one + i * width) for i in range(3)])
    gates_and_ups = _interleave(np.arange(2 * inner).reshape(2, inner), 2 * _LANES, _PANEL)
    every = np.arange(width)
    blocks = [cast(Block, block) for block in network.blocks]
    for i, block in enumerate(blocks):
        _pack_matrix(model, 4 * i, block.qkv.weight, qkv, wide=False)
        _pack_matrix(
            model, 4 * i + 1, block.attention_output.weight, every, columns=one, wide=False
        )
        _pack_matrix(model, 4 * i + 2, block.feedforward_input.weight, gates_and_ups, wide=False)
        _pack_matrix(model, 4 * i + 3, block.feedforward_output.weight, every, wide=False)
    norms = [n for b in blocks for n in (b.attention_norm, b.feedforward_norm)]
    for i, layer_norm in enumerate([*norms, network.norm]):
        weight = _plain(layer_norm.weight)
        load_library().nextword_model_norm(model, i, weight.data_ptr())
    return 4 * config.num_layers
