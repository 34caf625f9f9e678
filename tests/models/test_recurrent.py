"""The recurrent networks against cells written out by hand."""

import numpy as np
import pytest
import torch

from models.networks import DropoutRates
from models.networks.dropout import drop_locked
from tests.models.helpers import network_of

RECURRENT = ("rnn", "gru", "lstm")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elman(x, h, c, w):
    return np.tanh(w["ih"] @ x + w["b_ih"] + w["hh"] @ h + w["b_hh"]), c


def lstm(x, h, c, w):
    i, f, g, o = np.split(w["ih"] @ x + w["b_ih"] + w["hh"] @ h + w["b_hh"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x, h, c, w):
    r_x, z_x, n_x = np.split(w["ih"] @ x + w["b_ih"], 3)
    r_h, z_h, n_h = np.split(w["hh"] @ h + w["b_hh"], 3)
    reset, update = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    return (1 - update) * np.tanh(n_x + reset * n_h) + update * h, c


CELLS = {"rnn": elman, "gru": gru, "lstm": lstm}


def weights(network):
    """Return the parameters as float64 arrays by name."""
    return {name: w.numpy().astype(np.float64) for name, w in network.named_parameters()}


def by_hand(network, token_ids):
    """Return logits (T, V) and the last hidden and cell vectors (L, D), in float64."""
    config, w = network.config, weights(network)
    layers = [
        {
            "ih": w[f"layers.weight_ih_l{i}"],
            "hh": w[f"layers.weight_hh_l{i}"],
            "b_ih": w[f"layers.bias_ih_l{i}"],
            "b_hh": w[f"layers.bias_hh_l{i}"],
        }
        for i in range(config.num_layers)
    ]
    hidden = [np.zeros(config.hidden_size) for _ in layers]
    cells = [np.zeros(config.hidden_size) for _ in layers]
    output = w["embedding.weight"][: config.vocab_size] if config.tied else w["output"]
    rows = []
    for token in token_ids:
        x = w["embedding.weight"][token]
        for i, layer in enumerate(layers):
            hidden[i], cells[i] = CELLS[config.kind](x, hidden[i], cells[i], layer)
            x = hidden[i]
        if config.hidden_size != config.embedding_size:
            x = w["projection.weight"] @ x + w["projection.bias"]
        rows.append(output @ x + w["output_bias"])
    return np.stack(rows), np.stack(hidden), np.stack(cells)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"tied": False}, {"hidden_size": 16, "num_layers": 1}, {"dropout": 0.5, "num_layers": 3}],
    ids=["tied", "untied", "no projection", "dropout is for training"],
)
def test_logits_and_state_are_those_of_the_cell_equations(kind, sizes):
    network = network_of(kind, **sizes)
    token_ids = torch.randint(24, (9,), generator=torch.Generator().manual_seed(1))
    logits, state = network(token_ids[None])
    expected, hidden, cells = by_hand(network, token_ids.tolist())
    assert np.ptp(expected) > 1  # the weights are wide enough for the test to mean something
    np.testing.assert_allclose(logits[0].numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(state.vectors[0][0].numpy(), hidden, atol=1e-5)
    assert len(state.vectors) == (2 if kind == "lstm" else 1)
    if kind == "lstm":
        np.testing.assert_allclose(state.vectors[1][0].numpy(), cells, atol=1e-5)


@pytest.mark.parametrize("kind", RECURRENT)
def test_parameters_have_the_textbook_shapes(kind):
    network = network_of(kind, 23, num_ids=24, tied=False)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    shapes = {name: tuple(w.shape) for name, w in network.named_parameters()}
    assert shapes["embedding.weight"] == (24, 16)
    assert shapes["layers.weight_ih_l0"] == (gates * 20, 16)
    assert shapes["layers.weight_ih_l1"] == shapes["layers.weight_hh_l1"] == (gates * 20, 20)
    assert shapes["projection.weight"] == (16, 20)
    assert shapes["output"] == (23, 16)
    assert shapes["output_bias"] == (23,)


def test_an_lstm_begins_by_remembering():
    torch.manual_seed(0)
    from models.networks import RecurrentConfig, build_network

    network = build_network(RecurrentConfig("lstm", 5, 6, 4, 8, 2))
    for i in range(2):
        forget = network.layers.get_parameter(f"bias_ih_l{i}")[8:16]
        assert torch.equal(forget, torch.ones(8))


def test_dropout_acts_in_training_only():
    network = network_of("lstm", dropout=0.5)
    token_ids = torch.arange(6)[None]
    whole, _ = network(token_ids)
    again, _ = network(token_ids)
    assert torch.equal(whole, again)
    dropped, _ = network.train()(token_ids)
    assert not torch.allclose(whole, dropped, atol=0.1)


@pytest.mark.parametrize("kind", RECURRENT)
def test_dropout_drops_the_same_units_at_all_steps_of_a_text(kind):
    network = network_of(kind, dropout=0.5).train()
    features = torch.randn(3, 7, 20, generator=torch.Generator().manual_seed(1))
    kept = drop_locked(features, network.rates.hidden) / features  # (B, T, D)
    assert set(kept.unique().round().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(kept, kept[:, :1].expand_as(kept))
    assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("kind", RECURRENT)
def test_without_anything_dropped_training_computes_the_same(kind):
    network = network_of(kind, dropout=0.5, num_layers=3)
    token_ids = torch.randint(24, (2, 9), generator=torch.Generator().manual_seed(1))
    _, before = network(token_ids)
    expected, expected_state = network(token_ids, before)
    network.train()
    network.rates = DropoutRates(weights=1e-12)  # the layers run one at a time
    found, state = network(token_ids, before)
    torch.testing.assert_close(found, expected)
    for a, b in zip(state.vectors, expected_state.vectors, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_text_that_begins_in_a_row_knows_nothing_of_the_one_before(kind):
    network = network_of(kind)
    token_ids = torch.randint(24, (2, 9), generator=torch.Generator().manual_seed(1))
    _, before = network(token_ids)
    begins = torch.zeros(2, 9, dtype=torch.bool)
    begins[1, 0] = True
    found, _ = network.features(token_ids, before, begins)
    torch.testing.assert_close(found[0], network.features(token_ids, before)[0][0])
    torch.testing.assert_close(found[1], network.features(token_ids)[0][1])
