from itertools import pairwise

import pytest
import torch
from torch import nn

from training.optimizer import AveragedWeights, build_optimizer, learning_rate
from training.recipe import OptimizerSettings


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


def test_only_matrices_decay():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = build_optimizer(network, OptimizerSettings(weight_decay=0.3)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert [sorted({p.dim() for p in g["params"]}) for g in groups] == [[2], [1]]


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
