from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.models.helpers import KINDS, network_of
from training.optimizer import AveragedWeights, build_optimizer
from training.recipe import OptimizerSettings
from training.schedule import first_moment_decay, learning_rate


def test_step_size_rises_stays_and_falls():
    settings = OptimizerSettings(
        learning_rate=1.0, warmup_steps=10, decay_share=0.4, final_rate=0.1
    )
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10:61] == pytest.approx([1.0] * 51)
    assert all(a > b for a, b in pairwise(rates[60:]))
    assert learning_rate(100, 100, settings) == pytest.approx(0.1)


def test_prolonging_a_run_before_its_decay_changes_nothing_so_far():
    settings = OptimizerSettings(decay_share=0.4)
    for step in range(60):
        assert learning_rate(step, 100, settings) == learning_rate(step, 1000, settings)


def test_no_warm_up_and_no_decay_is_constant():
    settings = OptimizerSettings(learning_rate=0.5, warmup_steps=0, decay_share=0.0)
    assert {learning_rate(step, 7, settings) for step in range(7)} == {0.5}


def _names(network: nn.Module, group: dict) -> set[str]:
    names = {id(p): name for name, p in network.named_parameters()}
    return {names[id(p)] for p in group["params"]}


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_decay(kind):
    network = network_of(kind)
    groups = build_optimizer(network, OptimizerSettings(weight_decay=0.3)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert [sorted({p.dim() for p in g["params"]}) for g in groups] == [[2], [1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_between_the_layers(kind, tied):
    network = network_of(kind, tied=tied)
    settings = OptimizerSettings(muon=True, weight_decay=0.3)
    ends, vectors, hidden = build_optimizer(network, settings).param_groups
    assert _names(network, ends) == {"embedding.weight"} | (set() if tied else {"output"})
    assert all("weight" in name for name in _names(network, hidden))
    assert [ends["weight_decay"], vectors["weight_decay"], hidden["weight_decay"]] == [0.3, 0, 0.3]
    taken = [p for group in (ends, vectors, hidden) for p in group["params"]]
    assert len(taken) == len({id(p) for p in taken}) == len(list(network.parameters()))


def test_a_step_of_muon_is_the_gradient_with_its_singular_values_made_alike():
    network = network_of("lstm", embedding_size=24, hidden_size=40).requires_grad_(True)
    settings = OptimizerSettings(muon=True, learning_rate=0.01, weight_decay=0.0)
    optimizer = build_optimizer(network, settings)
    weight = network.layers.weight_hh_l1  # (4 D, D)
    before = weight.detach().clone()
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    u, _, vh = torch.linalg.svd(weight.grad, full_matrices=False)
    optimizer.step()
    # Liu et al. (2025): the root mean square of a step is 0.2 learning rates.
    step = (before - weight.detach()) / (0.01 * 0.2 * 160**0.5)  # (4 D, D)
    values = u.T @ step @ vh.T  # (D, D): would be the identity for exact singular vectors
    assert torch.all((values.diagonal() > 0.6) & (values.diagonal() < 1.3))
    torch.testing.assert_close(
        values - values.diagonal().diag(), torch.zeros(40, 40), atol=0.05, rtol=0
    )
    torch.testing.assert_close(u @ values @ vh, step, atol=0.02, rtol=0)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_multiplies_what_the_device_does_natively(monkeypatch, native, dtype):
    monkeypatch.setattr("training.optimizer.multiplies_bfloat16", lambda device: native)
    seen = []
    monkeypatch.setattr("training.muon.orthogonal", lambda x: seen.append(x.dtype) or x)
    network = network_of("gru").requires_grad_(True)
    optimizer = build_optimizer(network, OptimizerSettings(muon=True))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert set(seen) == {dtype}


def test_average_is_the_weighted_sum_of_all_that_was():
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = AveragedWeights([parameter], decay=0.5)
    expected = 1.0
    for step in range(30):
        parameter.data.fill_(float(step))
        average.update(step)
        share = min(0.5, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * step
    assert float(average.weights[0]) == pytest.approx(expected, rel=1e-5)


def test_average_without_decay_is_the_weights():
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = AveragedWeights([parameter], decay=0.0)
    parameter.data.fill_(5.0)
    average.update(1000)
    assert float(average.weights[0]) == 5.0


def test_swapping_twice_restores():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    average = AveragedWeights([parameter], decay=0.9)
    parameter.data.fill_(7.0)
    average.swap()
    assert parameter.tolist() == [1.0, 2.0]
    average.swap()
    assert parameter.tolist() == [7.0, 7.0]
    assert average.weights[0].tolist() == [1.0, 2.0]


def test_one_cycle_rises_to_the_peak_and_falls_while_the_moment_does_the_opposite():
    settings = OptimizerSettings(
        schedule="1cycle",
        learning_rate=2.0,
        start_rate=0.1,
        final_rate=0.01,
        rise_share=0.25,
        beta1=0.9,
        beta1_at_peak=0.7,
    )
    rates = [learning_rate(step, 200, settings) for step in range(201)]
    decays = [first_moment_decay(step, 200, settings) for step in range(201)]
    assert (rates[0], rates[50], rates[200]) == pytest.approx((0.2, 2.0, 0.02))
    assert (decays[0], decays[50], decays[200]) == pytest.approx((0.9, 0.7, 0.9))
    assert rates[25] == pytest.approx((0.2 + 2.0) / 2)
    for course, sign in ((rates, 1), (decays, -1)):
        assert all(sign * (b - a) > 0 for a, b in pairwise(course[:51]))
        assert all(sign * (b - a) < 0 for a, b in pairwise(course[50:]))


def test_without_a_cycle_the_moment_decays_the_same_throughout():
    settings = OptimizerSettings(beta1=0.8, beta1_at_peak=0.5)
    assert {first_moment_decay(step, 50, settings) for step in range(50)} == {0.8}


def test_from_a_step_on_all_weights_count_alike():
    parameter = nn.Parameter(torch.zeros(1))
    average = AveragedWeights([parameter], decay=0.9, uniform_from=3.5)
    values = [5.0, -7.0, 11.0, 2.0, 1.0, 4.0, 10.0]
    for step, value in enumerate(values):
        parameter.data.fill_(value)
        average.update(step)
        if step >= 4:
            assert float(average.weights[0]) == pytest.approx(
                sum(values[4 : step + 1]) / (step - 3)
            )
