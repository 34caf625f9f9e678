"""Online scores against their definitions, and as probabilities: they sum to one, and look back."""

import copy

import numpy as np
import pytest
import torch

from tests.training.conftest import random_model
from training.dynamic_evaluation import DynamicSettings, gradient_statistics, score_dynamically
from training.neural_cache import CacheSettings, score_with_cache, tune_cache
from training.online import online_log_probs, online_metric, online_settings, tune
from training.perplexity import score_documents
from training.running_text import read_running_text

CACHE = CacheSettings(size=7, theta=0.4, share=0.3)
DYNAMIC = DynamicSettings(rate=0.05, decay=0.02, segment=4)
KINDS = ("lstm", "transformer")


@pytest.fixture(params=KINDS)
def model(request, tokenizers):
    return random_model(request.param, tokenizers["word"])


@pytest.fixture
def tokens(tokenizers, corpus):
    return read_running_text(corpus[1], tokenizers["word"]).tokens[:60]


def _scores(model, documents, settings):
    statistics = []
    if isinstance(settings, DynamicSettings):
        statistics = gradient_statistics(model, documents[:1], segment=4, segments=5)
    return online_log_probs(model, documents, settings, statistics)


def _statistics(model, document):
    return gradient_statistics(model, [document], segment=4, segments=5)


@pytest.mark.parametrize("settings", [CACHE, DYNAMIC])
def test_probabilities_of_all_words_sum_to_one(model, tokens, settings):
    """Brute force: every word of the vocabulary in turn as the last of the text."""
    statistics = _statistics(model, tokens)
    total = 0.0
    for word in range(model.network.vocab_size):
        text = np.append(tokens[:21], word)
        total += np.exp(online_log_probs(model, [text], settings, statistics)[-1])
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("settings", [CACHE, DYNAMIC])
def test_a_token_is_scored_before_it_and_what_follows_is_known(model, tokens, settings):
    statistics = _statistics(model, tokens)
    whole = online_log_probs(model, [tokens[:30]], settings, statistics)
    other = tokens[:30].copy()
    other[22:] = (other[22:] + 5) % model.network.vocab_size
    changed = online_log_probs(model, [other], settings, statistics)
    np.testing.assert_allclose(changed[:22], whole[:22], atol=1e-5)
    assert not np.allclose(changed[22:], whole[22:], atol=1e-3)


def test_the_cache_is_the_papers_sum(model, tokens):
    """Oracle: equations 3 and 5, position by position in plain Python, over two documents."""
    documents = [tokens[:25], tokens[25:60]]
    found = np.concatenate(list(score_with_cache(model, documents, CACHE)))
    kept: list[tuple[np.ndarray, int]] = []
    expected = []
    for document in documents:
        inputs = torch.tensor([[model.tokenizer.bos_id, *document[:-1].tolist()]])
        features, _ = model.network.features(inputs)
        network = model.network.logits(features)[0].double().softmax(-1)
        for t, word in enumerate(document.tolist()):
            now = features[0, t].double().numpy()
            p = float(network[t, word])
            window = kept[-CACHE.size :]
            if window:
                weights = [np.exp(CACHE.theta * now @ key) for key, _ in window]
                hits = sum(w for w, (_, i) in zip(weights, window, strict=True) if i == word)
                p = (1 - CACHE.share) * p + CACHE.share * hits / sum(weights)
            expected.append(np.log(p))
            kept.append((now, word))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_cache_across_blocks_of_positions_is_the_same(model, tokens, monkeypatch):
    expected = _scores(model, [tokens], CACHE)
    monkeypatch.setattr("training.neural_cache._POSITIONS", 3)
    np.testing.assert_allclose(_scores(model, [tokens], CACHE), expected, atol=1e-5)


def test_without_a_share_or_a_step_the_figures_are_the_static_ones(model, tokens):
    static = np.concatenate([s.log_probs for s in score_documents(model, [tokens])])
    none = CacheSettings(share=0.0)
    np.testing.assert_allclose(_scores(model, [tokens], none), static, atol=1e-4)
    still = DynamicSettings(rate=0.0, decay=0.3, segment=4)
    np.testing.assert_allclose(_scores(model, [tokens], still), static, atol=1e-4)


def test_dynamic_evaluation_takes_the_papers_steps(model, tokens):
    """Oracle: equations 8 and 9 with torch's own loss, weight by weight."""
    statistics = _statistics(model, tokens)
    found = np.concatenate(list(score_dynamically(model, [tokens[:16]], DYNAMIC, statistics)))
    network = copy.deepcopy(model.network).requires_grad_(True)
    trained = [w.detach().clone() for w in network.parameters()]
    mean = torch.cat([r.flatten() for r in statistics]).mean()
    state, expected = None, []
    inputs = torch.tensor([model.tokenizer.bos_id, *tokens[:15].tolist()])
    targets = torch.from_numpy(tokens[:16].astype(np.int64))
    for start in range(0, 16, 4):
        logits, state = network(inputs[None, start : start + 4], state)
        state = state.detach()
        loss = torch.nn.functional.cross_entropy(
            logits[0], targets[start : start + 4], reduction="none"
        )
        expected += (-loss).tolist()
        network.zero_grad()
        loss.mean().backward()
        with torch.no_grad():
            for w, w0, rms in zip(network.parameters(), trained, statistics, strict=True):
                gradient = torch.zeros_like(w) if w.grad is None else w.grad
                pull = (DYNAMIC.decay * rms / mean).clamp(max=1) * (w0 - w)
                w += pull - DYNAMIC.rate * gradient / (rms + DYNAMIC.epsilon * mean)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_model_itself_stays_as_it_is(model, tokens):
    before = {name: w.clone() for name, w in model.network.state_dict().items()}
    _scores(model, [tokens], DYNAMIC)
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, before[name])
        assert not weight.requires_grad


def test_a_text_that_repeats_itself_gets_cheaper(model, tokens):
    text = np.tile(tokens[:12], 12)
    static = _scores(model, [text], CacheSettings(share=0.0))
    for settings in (CacheSettings(size=60, theta=1.0, share=0.5), DYNAMIC):
        online = _scores(model, [text], settings)
        assert online[-60:].mean() > static[-60:].mean() + 0.1


def test_tuning_finds_the_best_of_its_grid(model, tokens):
    grid = {"sizes": (5, 20), "thetas": (0.1, 0.5), "shares": (0.1, 0.4)}
    settings, nats = tune_cache(model, [tokens], **grid)
    each = {
        (size, theta, share): -_scores(
            model, [tokens], CacheSettings(size=size, theta=theta, share=share)
        ).mean()
        for size in grid["sizes"]
        for theta in grid["thetas"]
        for share in grid["shares"]
    }
    best = min(each, key=each.get)
    assert (settings.size, settings.theta, settings.share) == best
    assert nats == pytest.approx(each[best], abs=1e-5)


def test_tuning_dynamic_evaluation_is_no_worse_than_any_of_its_grid(model, corpus, monkeypatch):
    monkeypatch.setattr("training.online.RATES", (0.0, 0.01))
    monkeypatch.setattr("training.online.DECAYS", (0.1,))
    statistics = _statistics(model, read_running_text(corpus[1], model.tokenizer).tokens[:60])
    found = tune(model, corpus[1], DYNAMIC, statistics, most_tokens=80)
    assert found.decay == 0.1
    assert found.segment == DYNAMIC.segment
    documents, room = [], 80
    for document in read_running_text(corpus[1], model.tokenizer).documents:
        documents.append(document[:room])
        room -= len(documents[-1])
        if not room:
            break
    scores = {
        rate: online_log_probs(
            model, documents, DynamicSettings(rate=rate, decay=0.1, segment=4), statistics
        ).sum()
        for rate in (0.0, 0.01)
    }
    assert found.rate == max(scores, key=scores.get)


def test_the_metric_is_told_apart_with_its_settings(model, corpus):
    name, metric = online_metric(model, corpus[1], CACHE, [])
    assert name == "online_perplexity_cache"
    assert "theta 0.4" in metric.definition
    text = read_running_text(corpus[1], model.tokenizer)
    log_probs = _scores(model, text.documents, CACHE)
    assert metric.value == pytest.approx(np.exp(-log_probs.mean()), rel=1e-6)
    assert metric.count == len(text.tokens)


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("memory", [], "online must be cache or dynamic, not 'memory'"),
        ("cache", ["rate=1"], "a setting of cache is NAME=VALUE, of size, theta, share, not"),
        ("cache", ["size=half"], "cache size must be a whole number, not 'half'"),
        ("cache", ["share=1"], "cache share must be at least 0 and below 1, not 1.0"),
        ("cache", ["theta=nan"], "cache theta must be finite"),
        ("dynamic", ["segment=0"], "dynamic segment must be above 0, not 0"),
        ("dynamic", ["rate=-1"], "dynamic rate must be at least 0"),
    ],
)
def test_wrong_settings_are_named(method, override, message):
    with pytest.raises(ValueError, match=message):
        online_settings(method, override)


def test_settings_are_read():
    assert online_settings("cache", ["size=9", "theta=0.5"]) == CacheSettings(size=9, theta=0.5)
    assert online_settings("dynamic") == DynamicSettings()
