"""The Transformer against one written from its equations, position by position."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from models.networks import TransformerConfig
from models.networks.transformer import attend
from tests.models.helpers import CONTEXT, network_of


def rotation(position, width):
    """Return Su et al.'s rotation matrix (width, width), unit i turning with unit i + width / 2."""
    matrix = np.zeros((width, width))
    half = width // 2
    for i in range(half):
        angle = position * 10_000 ** (-2 * i / width)
        matrix[i, i] = matrix[i + half, i + half] = np.cos(angle)
        matrix[i + half, i], matrix[i, i + half] = np.sin(angle), -np.sin(angle)
    return matrix


def layer_norm(x, weight):
    return weight * (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def by_hand(network, token_ids):
    """Return logits (T, V) in float64: explicit loops over positions, heads and keys."""
    config = network.config
    w = {name: p.numpy().astype(np.float64) for name, p in network.named_parameters()}
    width, heads = config.embedding_size, config.num_heads
    size = width // heads
    stream = [w["embedding.weight"][token].copy() for token in token_ids]
    for block in range(config.num_layers):
        p = f"blocks.{block}."
        normed = [layer_norm(x, w[p + "attention_norm.weight"]) for x in stream]
        queries, keys, values = (
            [part @ x for x in normed] for part in np.split(w[p + "qkv.weight"], 3)
        )
        for t in range(len(stream)):
            first = max(0, t - config.context_length + 1)
            attended = np.zeros(width)
            for head in range(heads):
                units = slice(head * size, (head + 1) * size)
                query = rotation(t, size) @ queries[t][units]
                scores = [
                    query @ (rotation(s, size) @ keys[s][units]) / np.sqrt(size)
                    for s in range(first, t + 1)
                ]
                shares = softmax(np.array(scores))
                attended[units] = sum(
                    share * values[s][units]
                    for share, s in zip(shares, range(first, t + 1), strict=True)
                )
            stream[t] = stream[t] + w[p + "attention_output.weight"] @ attended
        for t, x in enumerate(stream):
            normed_x = layer_norm(x, w[p + "feedforward_norm.weight"])
            gate, up = np.split(w[p + "feedforward_input.weight"] @ normed_x, 2)
            stream[t] = x + w[p + "feedforward_output.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    output = w["embedding.weight"][: config.vocab_size] if config.tied else w["output"]
    return np.stack([output @ layer_norm(x, w["norm.weight"]) + w["output_bias"] for x in stream])


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"tied": False, "num_heads": 1},
        {"num_heads": 8, "num_layers": 1},
        {"context_length": 1},
        {"context_length": 50, "dropout": 0.5},
    ],
    ids=["window", "untied one head", "heads of two units", "sees itself only", "no window"],
)
def test_logits_are_those_of_the_equations(sizes):
    network = network_of("transformer", **sizes)
    token_ids = torch.randint(24, (3 * CONTEXT,), generator=torch.Generator().manual_seed(1))
    logits, _ = network(token_ids[None])
    expected = by_hand(network, token_ids.tolist())
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits[0].numpy(), expected, atol=5e-5)


def test_shifting_a_text_in_its_window_changes_nothing():
    """Rotary positions are relative: only what attention still sees matters, not where it stands.

    With one block the reach is exactly one window; two blocks would look back twice as far.
    """
    network = network_of("transformer", num_layers=1)
    ids = torch.randint(24, (1, 4 * CONTEXT), generator=torch.Generator().manual_seed(2))
    late, _ = network(ids)
    early, _ = network(ids[:, -CONTEXT:])
    torch.testing.assert_close(late[:, -1], early[:, -1], atol=2e-5, rtol=0)


def test_parameters_have_the_textbook_shapes():
    network = network_of("transformer", 23, num_ids=24, tied=False)
    shapes = {name: tuple(w.shape) for name, w in network.named_parameters()}
    assert shapes["embedding.weight"] == (24, 16)
    assert shapes["blocks.1.qkv.weight"] == (48, 16)
    assert shapes["blocks.1.attention_output.weight"] == (16, 16)
    assert shapes["blocks.1.feedforward_input.weight"] == (48, 16)
    assert shapes["blocks.1.feedforward_output.weight"] == (16, 24)
    assert shapes["output"] == (23, 16)
    assert "frequencies" not in network.state_dict()


@pytest.mark.parametrize(("width", "heads"), [(10, 3), (6, 2), (2, 2)])
def test_heads_must_divide_the_width_into_pairs(width, heads):
    with pytest.raises(ValueError, match=f"embedding_size {width}.*num_heads {heads}"):
        TransformerConfig("transformer", 5, 6, width, 1, heads, 8, 4)


def test_a_state_keeps_no_more_than_attention_reaches():
    network = network_of("transformer")
    _, state = network(torch.zeros(2, 100, dtype=torch.int64))
    assert state.keys.size(3) == CONTEXT - 1
    assert state.lengths.tolist() == [CONTEXT - 1] * 2
    assert state.positions.tolist() == [100] * 2
    assert state.num_bytes == 2 * 2 * 2 * 16 * (CONTEXT - 1) * 4


def test_texts_laid_behind_one_another_are_read_as_if_each_stood_alone():
    network = network_of("transformer")
    token_ids = torch.randint(24, (3, 40), generator=torch.Generator().manual_seed(4))
    begins = torch.zeros(3, 40, dtype=torch.bool)
    places = [[0, 3, 17], [0, 5, 8, 30, 32], [0]]
    for row, starts in enumerate(places):
        begins[row, starts] = True
    state, parts = None, []
    for start in range(0, 40, 8):  # a text goes on from segment to segment
        segment = slice(start, start + 8)
        features, state = network.features(token_ids[:, segment], state, begins[:, segment])
        parts.append(features)
    found = torch.cat(parts, dim=1)
    for row, starts in enumerate(places):
        for start, end in pairwise([*starts, 40]):
            alone, _ = network.features(token_ids[row : row + 1, start:end])
            torch.testing.assert_close(found[row, start:end], alone[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", [(5, 9), (2, 1, 5, 9), None])
def test_attention_is_the_same_with_gradients_and_without(shape):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 5, 8, generator=generator)
    k, v = torch.randn(2, 2, 3, 9, 8, generator=generator)
    mask = None
    if shape:
        mask = torch.rand(shape, generator=generator) < 0.5
        mask[..., 4] = True  # every query sees something
    with torch.enable_grad():
        found = attend(q, k, v, mask)
    with torch.no_grad():
        torch.testing.assert_close(found, attend(q, k, v, mask))
