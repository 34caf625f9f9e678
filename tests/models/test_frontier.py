"""The library's frontier against the one in Python: the same passes, words and bits."""

import json
import sys
from contextlib import nullcontext
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.forward import read, run
from models.frontier import Question
from models.native import search as native
from models.native.search import NativeFrontier
from models.plain_frontier import PlainFrontier
from models.search import Search
from models.tokenizers import train_tokenizer
from models.tokenizers.merges import UNCLEAR
from tests.models.helpers import bounded, subwords_with, tokenizer_of, told_model


@cache
def many_words():
    """Return a tokenizer of far more words than the library finds at first."""
    words = [a + b + c for a in "tdn" for b in "aeo" for c in "bcdfghklmnprstvwz"]
    return train_tokenizer("word", [" ".join(words) + " ."], vocab_size=400)


@cache
def unclear():
    """Return the tokenizer of subwords with second ways to some of its tokens."""
    merges = json.loads(tokenizer_of("subword").to_json())["model"]["merges"]
    added = []
    for one, two in [merge for merge in merges if len("".join(merge)) == 3][::2]:
        whole, size = one + two, 3 - len(one)  # of the left half, the other way
        half = [*(whole[:2] if size == 2 else whole[1:])]
        added += [half] if half not in merges + added else []
        added.append([whole[:size], whole[size:]])
    tokenizer = subwords_with(added)
    grown = tokenizer.merges.rank >= 0
    assert 3 < (tokenizer.merges.last == UNCLEAR).sum() < grown.sum() - 3
    return tokenizer


@cache
def model_that_says(kind, seed, scale, coarse):
    """Return a model of random distributions; with ``coarse`` many are equal, some impossible."""
    tokenizers = {"many": many_words, "unclear": unclear}
    tokenizer = tokenizers[kind]() if kind in tokenizers else tokenizer_of(kind)

    @cache
    def logits(history):
        drawn = np.random.default_rng((seed, *history)).normal(size=tokenizer.vocab_size)
        if coarse:
            drawn = np.where(drawn > 2, -np.inf, np.round(drawn))
        return drawn * scale

    return told_model(tokenizer, logits)


def searched(frontier_of, model, question, context="the cat"):
    """Return what was found, and the passes that were asked for."""
    asked = []

    def program():
        root = yield from read(model.tokenizer.encode_context(context), None)
        frontier = frontier_of(question, root)
        while forwards := frontier.ask():
            asked.append(forwards)
            frontier.tell((yield forwards))
        return frontier.found()

    return run(program(), model), asked


def assert_same(model, question):
    found, asked = searched(NativeFrontier, model, question)
    plain, plain_asked = searched(PlainFrontier, model, question)
    assert asked == plain_asked
    assert found.words == plain.words
    assert found.proven == plain.proven
    assert found.prefix_log_prob == pytest.approx(plain.prefix_log_prob, rel=1e-12)
    assert found.finished_log_prob == pytest.approx(plain.finished_log_prob, abs=2e-5)  # of floats
    return found


models = st.builds(
    model_that_says,
    st.sampled_from(["many", "subword", "subword", "unclear", "wikitext"]),
    st.integers(0, 9),
    st.sampled_from([0.3, 2.0, 5.0]),
    st.booleans(),
)
prefixes = st.sampled_from(
    [b"", b"", b"t", b"th", b"do", b"doesn't", b"\x01", b"\x01.", b".", b"q"]
)
expansions = st.sampled_from([0, 3, 20, 100])
excluded = st.none() | st.sets(st.sampled_from(["the", "dog", "a", "cat", "is", ".", "on"]))


def assert_words_are_the_same(model, without, **asked):
    """As `assert_same`, of a question that takes none of the words ``without``."""
    accept = None if without is None else lambda text: text not in without
    assert_same(model, Question(model.tokenizer, accept=accept, **asked))


@bounded(250)
@given(models, prefixes, st.sampled_from([1, 2, 5, 12, 40]), st.booleans(), excluded, expansions)
def test_words(model, prefix, limit, words_only, without, most_expansions):
    assert_words_are_the_same(
        model,
        without,
        limit=limit,
        prefix=prefix,
        words_only=words_only,
        most_refused=len(without or ()),
        most_expansions=most_expansions,
    )


@bounded(60)
@given(models, prefixes, st.integers(2, 3), st.sampled_from([1, 3, 8]), excluded, expansions)
def test_phrases(model, prefix, num_words, limit, without, most_expansions):
    assert_words_are_the_same(
        model,
        without,
        limit=limit,
        prefix=prefix,
        num_words=num_words,
        most_expansions=most_expansions,
    )


@bounded(40)
@given(st.integers(0, 9), st.booleans(), st.booleans(), st.sampled_from([b"", b"t", b"to"]))
def test_all_words_of_a_vocabulary(seed, coarse, words_only, prefix):
    """Many more children than the library finds at first."""
    model = model_that_says("many", seed, 2.0, coarse)
    found = assert_same(
        model, Question(model.tokenizer, limit=None, prefix=prefix, words_only=words_only)
    )
    starts = model.tokenizer.word_starts if words_only else model.tokenizer.unit_starts
    pieces = model.tokenizer.pieces
    fitting = [i for i in np.flatnonzero(starts).tolist() if pieces[i].startswith(prefix)]
    listed = {word.token_ids[0] for word in found.words}
    assert listed <= {*fitting} | {i for i in listed if pieces[i].startswith(b"\x01" + prefix)}
    assert coarse or {*fitting} <= listed


def test_equals_come_in_the_order_of_their_ids():
    tokenizer = many_words()
    model = told_model(tokenizer, lambda history: np.zeros(tokenizer.vocab_size))
    found = assert_same(model, Question(tokenizer, limit=len(tokenizer.single_ids)))
    assert [word.token_ids for word in found.words] == [(i,) for i in tokenizer.single_ids]


@pytest.mark.parametrize("kind", ["subword", "unclear"])
@pytest.mark.parametrize("places", [1, 3])
def test_what_was_forgotten_of_tokens_is_found_again(monkeypatch, kind, places):
    """There is room for what may follow ``places`` tokens, and many are asked for."""
    model = model_that_says(kind, 0, 2.0, False)
    monkeypatch.setattr(native, "_MOST_KNOWN", places * model.tokenizer.vocab_size)
    vocabulary = native._Vocabulary(model.tokenizer)
    monkeypatch.setattr(native, "_vocabulary", lambda tokenizer: vocabulary)
    assert vocabulary._pointers.num_known == places
    for prefix in (b"", b"t", b"do", b"th"):
        assert_same(model, Question(model.tokenizer, limit=200, prefix=prefix, words_only=False))


def test_without_the_interpreters_lock_nothing_is_shared(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    functions = native._functions.__wrapped__
    assert functions() is None
    monkeypatch.undo()
    assert functions() is not None


def counted(calls, function, *arguments):
    calls.append(function)
    return function(*arguments)


@pytest.mark.parametrize("passes", [0, 1, 2, 1000])
def test_memory_is_freed_wherever_a_search_ends(monkeypatch, passes):
    functions = native._functions()
    begun, freed = [], []
    monkeypatch.setattr(
        native,
        "_functions",
        lambda: functions._replace(
            new=partial(counted, begun, functions.new), free=partial(counted, freed, functions.free)
        ),
    )
    model = model_that_says("subword", 0, 0.3, False)
    root = run(read([model.tokenizer.bos_id], None), model)
    program = Search(model.tokenizer, limit=5, prefix=b"t").run(root)
    assert not begun
    forwards = next(program)
    with nullcontext() if passes < 1000 else pytest.raises(StopIteration):
        for _ in range(passes):
            forwards = program.send(model.compute(forwards))
    program.close()
    assert len(begun) == len(freed) == 1


def test_what_is_tempered_or_has_no_library_goes_the_plain_way(monkeypatch):
    model = model_that_says("subword", 0, 2.0, False)
    root = run(read([model.tokenizer.bos_id], None), model)
    ask = partial(Search, model.tokenizer, limit=3)
    assert isinstance(ask()._frontier(root), NativeFrontier)
    assert isinstance(ask(temper=lambda log_probs: log_probs)._frontier(root), PlainFrontier)
    short = root._replace(log_probs=root.log_probs[::2])
    double = root._replace(log_probs=root.log_probs.double())
    assert isinstance(ask()._frontier(double), PlainFrontier)
    with pytest.raises(IndexError):  # not read beyond its end
        ask()._frontier(short)
    native._functions.cache_clear()
    monkeypatch.setattr("models.native.library.PATH", native.PATH.with_name("missing.so"))
    native.load_library.cache_clear()
    try:
        assert isinstance(ask()._frontier(root), PlainFrontier)
    finally:
        native._functions.cache_clear()
        native.load_library.cache_clear()


@pytest.mark.parametrize("nothing", [{"limit": 0}, {"limit": 1, "num_words": 0}])
def test_a_question_for_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="at least 1"):
        Search(tokenizer_of("subword"), **nothing)
