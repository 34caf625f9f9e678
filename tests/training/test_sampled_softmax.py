"""The sampled softmax against the exact one: equal where all words count, unbiased where not."""

import numpy as np
import pytest
import torch

from training.loss import fused_cross_entropy
from training.sampled_softmax import CandidateSampler, sampled_cross_entropy

V, E = 200, 6


def _inputs(rows: int = 12):
    random = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    tokens = random.zipf(1.3, size=20_000) % V
    features = torch.randn(rows, E, generator=generator)
    weight = 0.7 * torch.randn(V, E, generator=generator)
    bias = torch.randn(V, generator=generator)
    return tokens, features, weight, bias, torch.from_numpy(tokens[:rows].astype(np.int64))


def test_with_all_words_it_is_the_exact_loss_and_gradient():
    tokens, *inputs, targets = _inputs()
    gradients = []
    for sampled in (False, True):
        f, w, b = (x.clone().requires_grad_() for x in inputs)
        if sampled:
            candidates = CandidateSampler(tokens, V, V).draw(targets)
            loss = sampled_cross_entropy(f, w, b, candidates)
        else:
            loss = fused_cross_entropy(f, w, b, targets)
        loss.backward()
        gradients.append([loss.detach(), f.grad, w.grad, b.grad])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_partition_function_is_unbiased():
    tokens, features, weight, bias, targets = _inputs()
    sampler = CandidateSampler(tokens, V, 40)
    logits = features @ weight.T + bias
    exact = logits.exp().sum(1)
    generator = torch.Generator().manual_seed(1)
    estimates = []
    for _ in range(4000):
        c = sampler.draw(targets, generator=generator)
        assert torch.equal(c.token_ids[c.targets], targets)
        assert not c.log_weights[c.targets].any()
        assert len(c.token_ids) == len(c.token_ids.unique())
        estimates.append((logits[:, c.token_ids] + c.log_weights).exp().sum(1))
    found = torch.stack(estimates)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - exact).abs() < 4.5 * error + 1e-6 * exact).all()


def test_the_loss_nears_the_exact_one_with_more_words():
    tokens, features, weight, bias, targets = _inputs()
    exact = float(fused_cross_entropy(features, weight, bias, targets))
    generator = torch.Generator().manual_seed(1)
    errors = []
    for samples in (12, 60, 180):
        sampler = CandidateSampler(tokens, V, samples)
        draws = [sampler.draw(targets, generator=generator) for _ in range(200)]
        losses = [float(sampled_cross_entropy(features, weight, bias, c)) for c in draws]
        errors.append(np.mean(np.square(np.array(losses) - exact)) ** 0.5)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.4 * errors[0]


def test_words_are_drawn_by_their_flattened_frequencies():
    tokens = np.repeat(np.arange(4), [1000, 800, 79, 15])
    sampler = CandidateSampler(tokens, 4, 8)
    assert sampler.frequent.tolist() == [0, 1, 2, 3]
    sampler = CandidateSampler(tokens, 4, 3)  # too few for frequent ones
    expected = np.array([1001, 801, 80, 16]) ** 0.75
    assert sampler.probabilities.tolist() == pytest.approx((expected / expected.sum()).tolist())
