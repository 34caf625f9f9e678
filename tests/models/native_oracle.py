"""The native backend's arithmetic once more, slowly: whole numbers in numpy, float64 in between."""

from collections.abc import Sequence

import numpy as np

from models.native.packing import FINE
from models.networks import Network, RecurrentNetwork, Transformer


class Product:
    """A matrix in bytes, one scale a row, and activations in 16 bits, one scale a row of them."""

    count = 0

    def __init__(self, weight, bias=None) -> None:
        weight = weight.detach().numpy()
        peaks = np.abs(weight).max(1, keepdims=True)
        self.bytes = np.rint(weight * (np.float32(127) / peaks)).astype(np.int64)
        self.scales = peaks[:, 0].astype(np.float64) / 127
        self.bias = 0 if bias is None else bias.detach().numpy().astype(np.float64)
        self.largest = min(32767, (2**31 - 1) // max(1, np.abs(self.bytes).sum(1).max()))

    def refine(self, weight, count: int) -> None:
        """Give the first ``count`` rows a second byte."""
        self.count = count
        weight = weight.detach().numpy()[:count]
        peaks = np.abs(weight).max(1, keepdims=True)
        left = weight * (np.float32(127) / peaks) - self.bytes[:count].astype(np.float32)
        self.rest = np.rint(left * np.float32(254)).astype(np.int64)
        largest = (2**31 - 1) // max(1, np.abs(self.rest).sum(1).max())
        self.largest = min(self.largest, largest)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        peaks = np.abs(x).max(-1, keepdims=True)
        factors = np.divide(self.largest, peaks, out=np.zeros_like(peaks), where=peaks > 0)
        whole = np.rint(x * factors).astype(np.int64)
        sums = whole @ self.bytes.T
        assert np.abs(sums).max(initial=0) < 2**31
        sums = sums.astype(np.float64)
        if self.count:
            sums[:, : self.count] += whole @ self.rest.T / 254
        return sums * self.scales * (peaks / self.largest) + self.bias


def log_probs(network: Network, token_ids: Sequence[int], temperature: float) -> np.ndarray:
    """Return natural log-probabilities (T, V) behind every token of a text."""
    x = network.embedding.weight.detach().numpy()[list(token_ids)].astype(np.float64)
    features = _recurrent if isinstance(network, RecurrentNetwork) else _transformer
    output = Product(network.output_weight, network.output_bias)
    output.refine(network.output_weight, FINE)
    logits = output(features(network, x)) / temperature
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


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
    projection.refine(network.projection.weight, network.config.embedding_size)
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
    seen = (key <= query) & (key > query - config.context_length)
    for block in network.blocks:
        qkv = Product(block.qkv.weight)(_norm(x, block.attention_norm))
        attended = np.zeros_like(x)
        parts = qkv.reshape(time, 3, config.num_heads, 2 * half)
        for head in range(config.num_heads):
            q, k, v = parts[:, :, head].transpose(1, 0, 2)
            q, k = ((y[:, :half] + 1j * y[:, half:]) * turn for y in (q, k))
            scores = np.where(seen, (q @ k.conj().T).real / np.sqrt(2 * half), -np.inf)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            attended[:, head * 2 * half : (head + 1) * 2 * half] = weights @ v
        x = x + Product(block.attention_output.weight)(attended)
        inner = Product(block.feedforward_input.weight)(_norm(x, block.feedforward_norm))
        gate, up = np.split(inner, 2, axis=1)
        x = x + Product(block.feedforward_output.weight)(gate * _sigmoid(gate) * up)
    return _norm(x, network.norm)
