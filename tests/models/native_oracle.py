"""The native backend's arithmetic once more, slowly: whole numbers in numpy, float64 in between."""

from collections.abc import Sequence

import numpy as np

from models.native.packing import FINE
from models.networks import Network, RecurrentNetwork, Transformer

LANES, PANEL, FULLEST, SHARE = 16, 64, 8, 1 / 256


def _signs(count: int) -> np.ndarray:
    h = np.arange(count, dtype=np.uint64) * 0x9E3779B9 % 2**32
    h = (h ^ h >> np.uint64(16)) * 0x85EBCA6B % 2**32
    h = (h ^ h >> np.uint64(13)) * 0xC2B2AE35 % 2**32
    return np.where(h >> np.uint64(31), -1.0, 1.0)


def _turning(inputs: int) -> np.ndarray:
    """Return the orthogonal matrix (inputs, inputs) by which a row of activations is turned."""
    walsh = np.ones((1, 1))
    while 2 * len(walsh) <= inputs:
        walsh = np.block([[walsh, walsh], [walsh, -walsh]])
    block = len(walsh)
    first, last = (
        signs[:, None] * walsh / np.sqrt(block) for signs in np.split(_signs(2 * block), 2)
    )
    turning, then = np.eye(inputs), np.eye(inputs)
    turning[:block, :block] = first
    if block == inputs:
        return turning
    then[-block:, -block:] = last
    return turning @ then


class Product:
    """A matrix in bytes, one scale a row, and turned activations, one scale a row of them."""

    count = 0

    def __init__(self, weight, bias=None, *, wide=True, columns=None) -> None:
        weight = weight.detach().numpy()
        if columns is None:
            columns = np.arange(weight.shape[1])
        self.columns = columns
        self.inputs = -(-(columns.max() + 1) // LANES) * LANES
        self.turning = _turning(self.inputs)
        self.weight = (self._padded(weight) @ self.turning).astype(np.float32)
        peaks = np.abs(self.weight).max(1, keepdims=True)
        self.bytes = np.rint(self.weight * (np.float32(127) / peaks)).astype(np.int64)
        self.scales = peaks[:, 0].astype(np.float64) / 127
        self.bias = 0 if bias is None else bias.detach().numpy().astype(np.float64)
        self.largest = min(32767, (2**31 - 1) // max(1, np.abs(self.bytes).sum(1).max()))
        self.wide = wide

    def refine(self, count: int) -> None:
        """Give the first ``count`` rows a second byte."""
        self.count = count
        weight = self.weight[:count]
        peaks = np.abs(weight).max(1, keepdims=True)
        left = weight * (np.float32(127) / peaks) - self.bytes[:count].astype(np.float32)
        self.rest = np.rint(left * np.float32(254)).astype(np.int64)
        largest = (2**31 - 1) // max(1, np.abs(self.rest).sum(1).max())
        self.largest = min(self.largest, largest)

    def _padded(self, x: np.ndarray) -> np.ndarray:
        padded = np.zeros((*x.shape[:-1], self.inputs))
        padded[..., self.columns] = x
        return padded

    def __call__(self, x: np.ndarray, *, wide: bool | None = None) -> np.ndarray:
        wide = self.wide if wide is None else wide
        x = self._padded(x) @ self.turning
        most = self.largest if wide else 127
        peaks = np.abs(x).max(-1, keepdims=True)
        factors = np.divide(most, peaks, out=np.zeros_like(peaks), where=peaks > 0)
        whole = np.rint(x * factors).astype(np.int64)
        sums = whole @ self.bytes.T
        assert np.abs(sums).max(initial=0) < 2**31
        sums = sums.astype(np.float64)
        if self.count and wide:
            sums[:, : self.count] += whole @ self.rest.T / 254
        return sums * self.scales * (peaks / most) + self.bias


def log_probs(network: Network, token_ids: Sequence[int], temperature: float) -> np.ndarray:
    """Return natural log-probabilities (T, V) behind every token of a text."""
    x = network.embedding.weight.detach().numpy()[list(token_ids)].astype(np.float64)
    features = _recurrent if isinstance(network, RecurrentNetwork) else _transformer
    output = Product(network.output_weight, network.output_bias)
    output.refine(FINE)
    x = features(network, x)
    coarse, fine = (output(x, wide=wide) / temperature for wide in (False, True))
    shares = np.exp(coarse - coarse.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    starts = np.arange(0, network.vocab_size, PANEL)
    panels = np.add.reduceat(shares, starts, axis=1)
    enough = np.minimum(SHARE, np.sort(panels)[:, ::-1][:, :FULLEST][:, -1:])
    for start, refined in zip(starts, (panels >= enough).T, strict=True):
        panel = slice(start, start + PANEL)
        coarse[refined, panel] = fine[refined, panel]
    coarse -= coarse.max(1, keepdims=True)
    return coarse - np.log(np.exp(coarse).sum(1, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _recurrent(network: RecurrentNetwork, x: np.ndarray) -> np.ndarray:
    kind, parameters = network.config.kind, dict(network.layers.named_parameters())
    for layer in range(network.config.num_layers):
        from_input, from_hidden = (
            Product(parameters[f"weight_{s}_l{layer}"], parameters[f"bias_{s}_l{layer}"])
            for s in ("ih", "hh")
        )
        h = c = np.zeros((1, network.config.hidden_size))
        rows = []
        for a in from_input(x):
            b = from_hidden(h)[0]
            if kind == "lstm":
                i, f, g, o = np.split(a + b, 4)
                c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
                h = _sigmoid(o) * np.tanh(c)
            elif kind == "gru":
                (ar, az, an), (br, bz, bn) = np.split(a, 3), np.split(b, 3)
                update = _sigmoid(az + bz)
                h = (1 - update) * np.tanh(an + _sigmoid(ar + br) * bn) + update * h
            else:
                h = np.tanh(a + b)[None]
            rows.append(h[0])
        x = np.stack(rows)
    if network.config.hidden_size == network.config.embedding_size:
        return x
    projection = Product(network.projection.weight, network.projection.bias)
    projection.refine(network.config.embedding_size)
    return projection(x)


def _norm(x: np.ndarray, layer_norm) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5)
    return x * layer_norm.weight.detach().numpy()


def _transformer(network: Transformer, x: np.ndarray) -> np.ndarray:
    config, time = network.config, len(x)
    half = config.embedding_size // config.num_heads // 2
    angles = np.arange(time)[:, None] * 10_000.0 ** -(np.arange(half) / half)  # (T, D / 2H)
    turn = np.exp(1j * angles)
    query, key = np.arange(time)[:, None], np.arange(time)
    wide = -(-2 * half // LANES) * LANES  # of a head, padded
    heads = np.arange(config.num_heads)[:, None] * wide + np.arange(2 * half)
    seen = (key <= query) & (key > query - config.context_length)
    for block in network.blocks:
        qkv = Product(block.qkv.weight, wide=False)(_norm(x, block.attention_norm))
        attended = np.zeros_like(x)
        parts = qkv.reshape(time, 3, config.num_heads, 2 * half)
        for head in range(config.num_heads):
            q, k, v = parts[:, :, head].transpose(1, 0, 2)
            q, k = ((y[:, :half] + 1j * y[:, half:]) * turn for y in (q, k))
            scores = np.where(seen, (q @ k.conj().T).real / np.sqrt(2 * half), -np.inf)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            attended[:, head * 2 * half : (head + 1) * 2 * half] = weights @ v
        output = Product(block.attention_output.weight, wide=False, columns=heads.reshape(-1))
        x = x + output(attended)
        inner = Product(block.feedforward_input.weight, wide=False)
        inner = inner(_norm(x, block.feedforward_norm))
        gate, up = np.split(inner, 2, axis=1)
        output = Product(block.feedforward_output.weight, wide=False)
        x = x + output(gate * _sigmoid(gate) * up)
    return _norm(x, network.norm)
