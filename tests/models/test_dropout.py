"""Dropout of units, words and weights: what is dropped, and that nothing else changes."""

import pytest
import torch

from models.networks import DropoutRates
from models.networks.dropout import drop, drop_locked
from models.networks.weight_drop import drop_weights
from models.networks.word_dropout import embed
from tests.models.helpers import KINDS, network_of


def _ids(*shape: int) -> torch.Tensor:
    return torch.randint(24, shape, generator=torch.Generator().manual_seed(1))


def test_what_stays_is_scaled_so_that_the_mean_is_kept():
    torch.manual_seed(0)
    for dropped in (drop(torch.ones(400, 5, 50), 0.3), drop_locked(torch.ones(400, 5, 50), 0.3)):
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
        assert dropped.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", [0.001, 0.25, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(7,), (1 << 10, 1023)])
def test_each_element_is_dropped_for_itself(rate, shape):
    """Neighbours, which share random bits, know nothing of each other; nor does a second draw."""
    torch.manual_seed(0)
    x = torch.ones(shape)
    first, second = (drop(x, rate) == 0 for _ in range(2))
    assert first.shape == x.shape
    if len(shape) > 1:
        for one, other in ((first[:, 1:], first[:, :-1]), (first[:, 4:], first[:, :-4])):
            assert (one & other).float().mean() == pytest.approx(rate**2, rel=0.05, abs=1e-5)
        assert (first & second).float().mean() == pytest.approx(rate**2, rel=0.05, abs=1e-5)
        by_place = first.flatten()[: first.numel() // 4 * 4].view(-1, 4).float().mean(0)
        assert by_place.tolist() == pytest.approx([rate] * 4, rel=0.2)


def test_a_dropped_word_is_nothing_wherever_it_stands_and_the_matrix_is_spared():
    embedding = torch.nn.Embedding(24, 6)
    ids = _ids(8, 40)
    torch.manual_seed(2)
    kept = embed(embedding, ids, 0.5) / embedding(ids)  # (B, T, E)
    share = {int(i): kept[ids == i].unique().tolist() for i in ids.unique()}
    assert {tuple(round(s, 4) for s in found) for found in share.values()} == {(0.0,), (2.0,)}
    torch.testing.assert_close(embed(embedding, ids, 0.0), embedding(ids))


def test_weight_drop_is_dropconnect_on_the_recurrent_matrix_alone():
    weights = [torch.ones(8, 4), torch.ones(8, 5), torch.ones(8), torch.ones(8)]
    torch.manual_seed(0)
    found = drop_weights(weights, 0.5)
    assert set(found[1].flatten().tolist()) == {0.0, 2.0}
    for i in (0, 2, 3):
        assert found[i] is weights[i]


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_weight_drop_computes_what_the_masked_network_computes(kind):
    """Oracle: the same masks, drawn again, multiplied into the weights of an ordinary network."""
    network = network_of(kind, num_layers=2).train().requires_grad_(True)
    network.rates = DropoutRates(weights=0.4)
    torch.manual_seed(3)
    found, state = network(_ids(3, 7))
    found.sum().backward()
    gradient = network.layers.weight_hh_l1.grad.clone()
    torch.manual_seed(3)
    with torch.no_grad():
        masks = [drop(torch.ones_like(w[1]), 0.4) for w in network.layers.all_weights]
        for weights, mask in zip(network.layers.all_weights, masks, strict=True):
            weights[1].mul_(mask)
    network.zero_grad()
    network.eval()
    expected, expected_state = network(_ids(3, 7))
    torch.testing.assert_close(found, expected)
    for a, b in zip(state.vectors, expected_state.vectors, strict=True):
        torch.testing.assert_close(a, b)
    expected.sum().backward()
    torch.testing.assert_close(gradient, network.layers.weight_hh_l1.grad * masks[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["words", "input", "hidden", "output", "weights", "attention"])
def test_each_rate_acts_in_training_only(kind, place):
    network = network_of(kind, num_layers=2)
    ids = _ids(2, 9)
    before, _ = network(ids)
    network.rates = DropoutRates(**{place: 0.5})
    again, _ = network(ids)
    assert torch.equal(before, again)
    acts = place != ("weights" if kind == "transformer" else "attention")
    torch.manual_seed(0)
    dropped, _ = network.train()(ids)
    assert torch.allclose(before, dropped, atol=1e-4) != acts


def test_attention_dropout_is_one_rule_with_and_without_gradients():
    """On average over many masks, dropped attention is attention."""
    network = network_of("transformer", num_layers=1).train()
    ids = _ids(1, 5)
    expected = network(ids)[0].detach()
    network.rates = DropoutRates(attention=0.3)
    for context in (torch.enable_grad(), torch.no_grad()), (torch.no_grad(),):
        torch.manual_seed(0)
        with context[-1] if len(context) == 1 else context[0]:
            mean = torch.stack([network(ids)[0].detach() for _ in range(600)]).mean(0)
        assert (mean - expected).abs().mean() < 0.12 * expected.std()
