"""Questions with a history, against the mixture of three readers written out by hand."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import native
from models.forward import CHUNK, Forward, read, run, run_all
from models.generate import generate
from models.history import STRENGTHS, History
from models.next_word import next_word
from models.rank import rank
from models.recall import READ, recall
from models.score import score, score_all
from tests.models.enumeration import letters, outcomes, told, words
from tests.models.helpers import KINDS, bounded, corpus, model_of

every_kind = pytest.mark.parametrize("kind", KINDS)
every_tokenizer = pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
HISTORY = "the cat sees a room.\nAnna doesn't like the red house.\nthe cat can't find a room"
TEXT = "the cat sees the red house, Anna."
LETTERS = "ab abc ab, (cab)\nab-ab don't ab' abc\nab cab"


def log_softmax(model, token_ids):
    """Return natural log-probabilities (T, V), float64, behind each token."""
    logits, _ = model.network(torch.tensor([token_ids]))
    return torch.log_softmax(logits[0].double(), -1).numpy()


def by_hand(model, history, token_ids):
    """Return the three readers' distribution (T, V) behind each of ``token_ids``, BOS first."""
    tokenizer, known = model.tokenizer, History(model.tokenizer, history)
    end = known.token_ids[1:-1][-READ:].tolist()
    heard = [tokenizer.eos_id, *token_ids[1:]]
    anew = np.exp(log_softmax(model, token_ids))
    knowing = np.exp(log_softmax(model, [tokenizer.bos_id, *end, *heard]))[1 + len(end) :]
    prior = np.array([0.7, 0.15, 0.15])
    weights, mixed = prior, []
    for i, (first, third) in enumerate(zip(anew, knowing, strict=True)):
        repeats = known.repeats(heard[: i + 1])
        readers = np.stack([first, repeats.kept * first, repeats.kept * third])
        readers[1:, repeats.token_ids] += repeats.shares
        mixed.append(weights @ readers)
        if i + 1 < len(token_ids):
            weights = weights * readers[:, token_ids[i + 1]]
            weights = 0.98 * weights / weights.sum() + 0.02 * prior
    return np.log(mixed)


def behind(model, history, token_ids, want="last"):
    return run(recall(model, history, read(token_ids, None, want)), model).log_probs.numpy()


@every_kind
@every_tokenizer
def test_the_distribution_is_the_mixture_and_sums_to_one(kind, tokenizer):
    model = model_of(kind, tokenizer)
    for text in ("", "a", TEXT, " ".join(corpus(8))):
        token_ids = model.tokenizer.encode_context(text)
        expected = by_hand(model, HISTORY, token_ids)
        found = behind(model, HISTORY, token_ids)
        np.testing.assert_allclose(found, expected[-1], atol=2e-5)
        assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)
        every = behind(model, HISTORY, token_ids, "all")
        np.testing.assert_allclose(every, expected, atol=2e-5)
        if text:
            assert np.abs(every - behind(model, "", token_ids, "all")).max() > 0.01


@every_tokenizer
def test_a_score_is_the_sum_over_the_tokens(tokenizer):
    model = model_of("lstm", tokenizer)
    token_ids = [model.tokenizer.bos_id, *model.tokenizer.encode_ids(TEXT)]
    rows = by_hand(model, HISTORY, token_ids)
    targets = [*token_ids[1:], model.tokenizer.eos_id]
    total = rows[np.arange(len(targets)), targets].sum()
    for detail in (False, True):
        found = run(recall(model, HISTORY, score(model, TEXT, words=detail)), model)
        assert found.log_prob == pytest.approx(total, abs=1e-3)


@every_kind
def test_a_score_is_the_product_of_what_is_predicted(kind):
    model = model_of(kind)
    spoken = "the cat sees a room"
    total = run(recall(model, HISTORY, score(model, spoken, eos=False)), model).log_prob
    product, text = 0.0, ""
    for word in spoken.split():
        question = next_word(model, text, candidates=[word], top_k=1)
        product += run(recall(model, HISTORY, question), model).candidates[0].log_prob
        text += word + " "
    assert product == pytest.approx(total, abs=1e-3)


def told_by_hand(model, history):
    """Return a model that says by itself what the readers of ``history`` say together."""
    tokenizer, tell = model.tokenizer, model.network.tell
    known = History(tokenizer, history)
    end = known.token_ids[1:-1].tolist()
    prior = np.array([0.7, 0.15, 0.15])

    def distribution(token_ids):
        logits = np.stack([tell(token_ids), tell((tokenizer.bos_id, *end, *heard(token_ids)))])
        with np.errstate(invalid="ignore"):
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        anew, knowing = shifted / shifted.sum(axis=1, keepdims=True)
        repeats = known.repeats(heard(token_ids))
        readers = np.stack([anew, repeats.kept * anew, repeats.kept * knowing])
        readers[1:, repeats.token_ids] += repeats.shares
        return readers

    def heard(token_ids):
        return (tokenizer.eos_id, *token_ids[1:])

    def logits(token_ids):
        weights = prior
        for i in range(1, len(token_ids)):
            likely = weights * distribution(token_ids[:i])[:, token_ids[i]]
            weights = 0.98 * (likely / likely.sum() if likely.sum() else weights) + 0.02 * prior
        with np.errstate(divide="ignore"):
            return np.log(weights @ distribution(token_ids))

    return replace(model, network=type(model.network)(tokenizer, logits), backend=None)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("text", ["", "ab"])
def test_the_top_is_that_of_the_enumeration(text, temperature):
    model = told(letters())
    same = told_by_hand(model, LETTERS)
    tokenizer = model.tokenizer
    found = outcomes(same, tuple(tokenizer.encode_context(text)), temperature=temperature)
    total = sum(map(math.exp, found.values()))
    assert total == pytest.approx(1, abs=1e-5)
    for words_only in (True, False):
        expected = words(tokenizer, found, words_only=words_only)
        question = next_word(model, text, top_k=20, words_only=words_only, temperature=temperature)
        answer = run(recall(model, LETTERS, question), model)
        assert answer.proven
        for prediction, (_, probability) in zip(answer.predictions, expected, strict=False):
            assert prediction.probability == pytest.approx(probability, rel=1e-4)
        assert len(answer.predictions) == 20


def test_a_word_model_sums_to_one_over_all_words():
    model = model_of("transformer", "word")
    question = next_word(model, "the cat sees", top_k=None, words_only=False)
    answer = run(recall(model, HISTORY, question), model)
    rows = by_hand(model, HISTORY, model.tokenizer.encode_context("the cat sees"))
    assert answer.covered_mass == pytest.approx(1, abs=1e-6)
    end = math.exp(rows[-1][model.tokenizer.eos_id])
    listed = sum(prediction.probability for prediction in answer.predictions)
    assert listed + end + answer.oov_mass == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("history", ["", "\n", " \r\n "])
def test_without_a_history_nothing_changes(history):
    model = model_of("gru")
    for question in (
        lambda: next_word(model, "the cat", prefix="s", candidates=["sees"]),
        lambda: score(model, TEXT, words=True),
        lambda: generate(model, "the", strategy="sample", seed=1),
    ):
        assert run(recall(model, history, question()), model) == run(question(), model)


def test_names_of_the_history_are_found():
    model = model_of("lstm")
    name = "Zyqqxorvian"
    history = f"the cat sees {name}.\nAnna was reading {name}, the teacher's friend."
    question = lambda: next_word(model, "Anna sees", prefix="Zyqq", top_k=1)  # noqa: E731
    plain = run(question(), model).predictions
    knowing = run(recall(model, history, question()), model).predictions
    assert [p.word for p in plain] != [name]
    assert [p.word for p in knowing] == [name]
    assert knowing[0].probability > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_no_history_costs_more_than_it_may(seed):
    model = model_of("lstm", seed=seed, std=1.0)
    for text in corpus(6, seed=seed):
        alone = run(score(model, text), model)
        tokens = alone.scored_tokens
        knowing = run(recall(model, "abc xyz!\n" * 9, score(model, text)), model)
        most = -math.log(0.7) - tokens * math.log(1 - 0.02 * 0.3)
        assert alone.log_prob - knowing.log_prob <= most + 1e-4


def test_what_is_remembered_changes_nothing():
    model = model_of("lstm")
    long = " ".join(corpus(40))
    assert len(model.tokenizer.encode_context(long)) > 2 * CHUNK
    for text in ("the cat", "the cat sees", long, long + " the cat", "the", long):
        fresh = replace(model)
        tokens = model.tokenizer.encode_context(text)
        np.testing.assert_allclose(
            behind(model, HISTORY, tokens), behind(fresh, HISTORY, tokens), atol=1e-5
        )
        expected = by_hand(model, HISTORY, tokens)[-1]
        np.testing.assert_allclose(behind(model, HISTORY, tokens), expected, atol=1e-4)


def test_side_by_side_equals_one_by_one():
    model = model_of("gru")
    texts = corpus(12)
    together = run(recall(model, HISTORY, score_all(model, texts)), model)
    for text, found in zip(texts, together, strict=True):
        alone = run(recall(model, HISTORY, score(model, text)), model)
        assert found.log_prob == pytest.approx(alone.log_prob, abs=1e-4)
    questions = [recall(model, text, next_word(model, "the cat")) for text in texts]
    for text, found in zip(texts, run_all(questions, model), strict=True):
        alone = run(recall(model, text, next_word(model, "the cat")), model)
        assert [p.word for p in found.predictions] == [p.word for p in alone.predictions]


def test_rank_and_generate_know_it_too():
    model = model_of("lstm")
    texts = ["the cat sees a room", "a dog sees Anna"]
    ranked = run(recall(model, HISTORY, rank(model, texts)), model)
    scores = run(recall(model, HISTORY, score_all(model, texts)), model)
    for entry in ranked:
        assert entry.log_prob == pytest.approx(scores[entry.index].log_prob, abs=1e-4)
    for strategy in ("greedy", "sample", "beam"):
        question = generate(model, "the cat", strategy=strategy, seed=3, max_tokens=12)
        (result,) = run(recall(model, HISTORY, question), model).results
        assert math.isfinite(result.log_prob)


@pytest.mark.skipif(not native.available(), reason="the library was not built")
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_the_native_backend_says_about_the_same(kind):
    sizes = {"embedding_size": 32, "hidden_size": 32} if kind == "lstm" else {}
    model = model_of(kind, **sizes)
    fast = replace(model, backend=native.NativeBackend(model.network, threads=1))
    found = run(recall(fast, HISTORY, score(fast, TEXT)), fast)
    expected = run(recall(model, HISTORY, score(model, TEXT)), model)
    assert found.log_prob == pytest.approx(expected.log_prob, rel=0.03)
    words = run(recall(fast, HISTORY, next_word(fast, "the cat", candidates=["sees"])), fast)
    same = run(recall(fast, HISTORY, score(fast, "the cat", eos=False)), fast).log_prob
    more = run(recall(fast, HISTORY, score(fast, "the cat sees", eos=False)), fast).log_prob
    assert words.candidates[0].log_prob == pytest.approx(more - same, abs=1e-4)


def test_closing_it_closes_the_question():
    model = model_of("lstm")
    question = next_word(model, "the cat")
    asked = recall(model, HISTORY, question)
    next(asked)
    asked.close()
    assert question.gi_frame is None


def test_the_state_tells_its_memory():
    model = model_of("lstm")
    (result,) = run(recall(model, HISTORY, _both(model)), model)
    assert result.state.num_bytes >= 2 * 4 * model.tokenizer.vocab_size


def _both(model):
    return (yield [Forward([model.tokenizer.bos_id, 3, 4], None, "none")])


def test_a_long_history_is_answered_in_time():
    model = model_of("lstm")
    history = "\n".join(corpus(600))[:16_384]
    began = time.perf_counter()
    run(recall(model, history, score(model, " ".join(corpus(3)))), model)
    assert time.perf_counter() - began < 5


@given(st.text(max_size=40), st.text(max_size=30))
@bounded(60)
def test_any_history_and_any_text_sum_to_one(history, text):
    model = model_of("gru")
    log_probs = behind(model, history, model.tokenizer.encode_context(text))
    assert np.exp(log_probs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    found = run(recall(model, history, score(model, text, words=True)), model)
    assert math.isfinite(found.log_prob)
    answer = run(recall(model, history, next_word(model, text, top_k=3)), model)
    assert len(answer.predictions) == 3


def test_the_strengths_are_a_distribution():
    assert STRENGTHS.repeating + STRENGTHS.knowing < 1
    assert len(STRENGTHS.between) == len(STRENGTHS.within)
