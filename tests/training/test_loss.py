from dataclasses import replace

import pytest
import torch

from training import loss
from training.loss import SoftTargets, fused_cross_entropy


def _inputs(rows: int = 53, vocab_size: int = 37, width: int = 8):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, width, generator=generator)
    weight = torch.randn(vocab_size + 1, width, generator=generator)
    bias = torch.randn(vocab_size, generator=generator)
    targets = torch.randint(vocab_size, (rows,), generator=generator)
    return [x.requires_grad_() for x in (features, weight, bias)], targets


def _run(function, scale: float = 1.0):
    (features, weight, bias), targets = _inputs()
    # Like tied weights: the output matrix is a part of a larger one.
    value = function(features, weight[:-1], bias, targets)
    (scale * value).backward()
    return value.detach(), features.grad, weight.grad, bias.grad


def _plain(features, weight, bias, targets):
    return torch.nn.functional.cross_entropy(features @ weight.T + bias, targets)


@pytest.mark.parametrize("rows_at_once", [1, 7, 53, 1000])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_equals_torch_with_all_gradients(monkeypatch, rows_at_once, scale):
    monkeypatch.setattr(loss, "_CHUNK_BYTES", rows_at_once * 37 * 4)
    for ours, theirs in zip(_run(fused_cross_entropy, scale), _run(_plain, scale), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_bfloat16_is_near(monkeypatch, rows_at_once):
    monkeypatch.setattr(loss, "_CHUNK_BYTES", rows_at_once * 37 * 2)

    def half(*inputs):
        return fused_cross_entropy(*inputs, dtype=torch.bfloat16)

    for ours, theirs in zip(_run(half), _run(_plain), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.01)


def test_an_answer_that_is_thought_impossible_costs_a_finite_loss():
    weight = torch.tensor([[200.0], [-200.0]])
    value = fused_cross_entropy(torch.ones(1, 1), weight, torch.zeros(2), torch.tensor([1]))
    assert 60 < float(value) < 500


def _soft(rows: int = 53, vocab_size: int = 37, width: int = 5) -> SoftTargets:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, width, generator=generator)
    weight = torch.randn(vocab_size, width, generator=generator)
    return SoftTargets(features, weight, torch.randn(vocab_size, generator=generator), 0.7)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_soft_targets_equal_torch_with_all_gradients(monkeypatch, rows_at_once, scale):
    monkeypatch.setattr(loss, "_CHUNK_BYTES", rows_at_once * 37 * 4)
    soft = _soft()

    def ours(*inputs):
        return fused_cross_entropy(*inputs, soft=soft)

    def plain(features, weight, bias, targets):
        expected = torch.softmax(soft.features @ soft.weight.T + soft.bias, dim=-1)
        taught = torch.nn.functional.cross_entropy(features @ weight.T + bias, expected)
        return 0.7 * taught + 0.3 * _plain(features, weight, bias, targets)

    for mine, theirs in zip(_run(ours, scale), _run(plain, scale), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_teacher_without_a_share_changes_nothing():
    silent = replace(_soft(), share=0.0)

    def ours(*inputs):
        return fused_cross_entropy(*inputs, soft=silent)

    for mine, theirs in zip(_run(ours), _run(fused_cross_entropy), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
