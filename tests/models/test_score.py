"""Sentence scores against sums over the network's own log-softmax."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.forward import CHUNK, run, run_all
from models.score import score
from tests.models.helpers import bounded, corpus, model_of

TOKENIZERS = ("subword", "word", "wikitext")
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS)
TEXT = "The cat's (old) friend doesn't see 10 dogs, again."


def by_hand(model, text, *, context="", bos=True, eos=True):
    """Return the log-probability of each token of ``text`` and EOS; None for one not scored."""
    tokenizer = model.tokenizer
    before = tokenizer.encode_context(context)[0 if bos else 1 :]
    target = tokenizer.encode(text).token_ids + [tokenizer.eos_id] * eos
    ids = before + target
    if len(ids) < 2:
        return [None] * len(target)
    logits, _ = model.network(torch.tensor([ids[:-1]]))
    rows = torch.log_softmax(logits[0].double(), -1)
    values = [None, *(float(rows[i, token]) for i, token in enumerate(ids[1:]))]
    return values[len(before) :]


@every_tokenizer
@pytest.mark.parametrize("kind", ["gru", "transformer"])
@pytest.mark.parametrize("context", ["", "a dog sees", "Anna.\nthe red\n"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
def test_the_total_is_the_sum_over_the_tokens(tokenizer, kind, context, bos, eos):
    model = model_of(kind, tokenizer)
    asked = {"context": context, "bos": bos, "eos": eos}
    expected = by_hand(model, TEXT, **asked)
    scored = [value for value in expected if value is not None]
    result = run(score(model, TEXT, words=True, **asked), model)
    assert result.text == TEXT
    assert result.log_prob == pytest.approx(sum(scored), abs=1e-3)
    assert result.scored_tokens == len(scored)
    assert result.mean_log_prob == pytest.approx(sum(scored) / len(scored), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(-sum(scored) / len(scored)), rel=1e-4)
    bits = -sum(scored) / math.log(2) / len(TEXT)
    assert result.bits_per_character == pytest.approx(bits, rel=1e-5)
    # Words and the end of the sentence add up; only the very first token can be unscored.
    assert (result.eos_log_prob is None) == (not eos)
    parts = [word.log_prob for word in result.words] + [result.eos_log_prob or 0.0]
    first_unscored = not bos and not context
    assert [part is None for part in parts] == [first_unscored] + [False] * (len(parts) - 1)
    if not first_unscored:
        assert sum(parts) == pytest.approx(result.log_prob, abs=1e-4)


@every_tokenizer
def test_words_carry_offsets_surprisal_and_oov(tokenizer):
    model = model_of("lstm", tokenizer)
    encoding = model.tokenizer.encode(TEXT)
    values = by_hand(model, TEXT)
    result = run(score(model, TEXT, words=True), model)
    assert len(result.words) == len(encoding.words)
    for word, span in zip(result.words, encoding.words, strict=True):
        assert (word.start, word.end) == (span.start, span.end)
        assert word.text == TEXT[span.start : span.end]
        assert word.log_prob == pytest.approx(sum(values[span.first : span.last]), abs=1e-4)
        assert word.surprisal_bits == pytest.approx(-word.log_prob / math.log(2))
        ids = encoding.token_ids[span.first : span.last]
        assert word.oov == (model.tokenizer.unk_id in ids and tokenizer != "subword")
    assert result.oov_count == sum(word.oov for word in result.words)
    assert (result.oov_count > 0) == (tokenizer != "subword")
    assert run(score(model, TEXT), model).words is None


@every_tokenizer
def test_nothing_scored_is_none(tokenizer):
    model = model_of("lstm", tokenizer)
    nothing = run(score(model, "", eos=False, words=True), model)
    assert nothing.scored_tokens == 0
    assert nothing.words == []
    unscored = (nothing.log_prob, nothing.perplexity, nothing.mean_log_prob)
    assert unscored == (None, None, None)
    assert nothing.bits_per_character is nothing.eos_log_prob is None
    only_eos = run(score(model, ""), model)
    assert only_eos.scored_tokens == 1
    assert only_eos.log_prob == only_eos.eos_log_prob == pytest.approx(by_hand(model, "")[0])
    assert only_eos.bits_per_character is None
    lonely = run(score(model, "", bos=False, words=True), model)
    assert (lonely.scored_tokens, lonely.log_prob, lonely.eos_log_prob) == (0, None, None)


def test_one_token_without_anything_before_it_has_no_probability():
    model = model_of("lstm", "word")
    result = run(score(model, "the", bos=False, eos=False, words=True), model)
    (word,) = result.words
    assert result.scored_tokens == 0
    assert word.log_prob is word.surprisal_bits is word.rank is result.log_prob is None


@pytest.mark.parametrize("tokenizer", ["word", "wikitext"])
def test_ranks_are_places_in_the_sorted_row(tokenizer):
    model = model_of("gru", tokenizer)
    ids = model.tokenizer.encode(TEXT).token_ids
    logits, _ = model.network(torch.tensor([[model.tokenizer.bos_id, *ids]]))
    order = np.argsort(-logits[0].numpy(), axis=-1)  # (T, V)
    expected = [int(np.flatnonzero(order[i] == token)[0]) + 1 for i, token in enumerate(ids)]
    result = run(score(model, TEXT, words=True), model)
    assert [word.rank for word in result.words] == expected


def test_a_rank_is_told_only_where_no_longer_word_can_stand_above():
    model = model_of("gru", "subword")
    tokenizer, text = model.tokenizer, " ".join(corpus(10))
    model.network.output_bias[np.flatnonzero(tokenizer.is_word_end)] += 4
    encoding = tokenizer.encode(text)
    logits, _ = model.network(torch.tensor([[tokenizer.bos_id, *encoding.token_ids]]))
    result = run(score(model, text, words=True), model)
    told = 0
    for word, span in zip(result.words, encoding.words, strict=True):
        row = logits[0, span.first].numpy()
        above = np.flatnonzero(row > row[encoding.token_ids[span.first]])
        unfinished = [i for i in above if not tokenizer.is_word_end[i] and i != tokenizer.eos_id]
        if span.last - span.first > 1 or unfinished:
            assert word.rank is None
        else:
            told += 1
            assert word.rank == len(above) + 1
    assert told


@every_tokenizer
@pytest.mark.parametrize("kind", ["rnn", "lstm", "transformer"])
def test_many_together_score_as_alone(tokenizer, kind):
    model = model_of(kind, tokenizer)
    texts = [*corpus(6, seed=3), "", "the", "x " * 40, TEXT]
    contexts = ["", "the cat", "a\nb"]
    asked = [
        {"text": text, "context": contexts[i % 3], "eos": i % 2 == 0, "words": True}
        for i, text in enumerate(texts)
    ]
    together = run_all([score(model, **one) for one in asked], model)
    for one, result in zip(asked, together, strict=True):
        alone = run(score(model, **one), model)
        assert result.scored_tokens == alone.scored_tokens
        if alone.log_prob is not None:
            assert result.log_prob == pytest.approx(alone.log_prob, rel=1e-5)
        assert [word.text for word in result.words] == [word.text for word in alone.words]


@given(st.integers(0, 3 * CHUNK), st.integers(0, 3 * CHUNK), st.booleans())
@bounded(20)
def test_texts_and_contexts_of_any_length_are_scored_whole(before, length, bos):
    """Around the length of one pass lie the mistakes of one too many or too few."""
    model = model_of("gru", "word")
    choose = np.random.default_rng(0).choice(["the", "cat", "sees", "a"], size=6 * CHUNK)
    context, text = " ".join(choose[:before]), " ".join(choose[before : before + length])
    expected = [v for v in by_hand(model, text, context=context, bos=bos) if v is not None]
    result = run(score(model, text, context=context, bos=bos), model)
    assert result.scored_tokens == len(expected)
    assert (result.log_prob or 0.0) == pytest.approx(sum(expected), rel=1e-4)


def test_an_impossible_sentence_has_a_finite_perplexity():
    model = model_of("lstm", "word")
    model.network.output_bias[model.tokenizer.spellings("the")[0][0]] = -1e6
    result = run(score(model, "the", eos=False), model)
    assert math.isfinite(result.perplexity)
    assert result.log_prob < -1e5
