"""Next word by best-first search against the enumeration of every outcome."""

import math

import numpy as np
import pytest

from models.forward import run
from models.next_word import next_word
from models.score import score
from tests.models.enumeration import letters, outcomes, text_of, told, words, written

ALL = 10**6
seeds = pytest.mark.parametrize("seed", range(2))


def context_of(model, text=""):
    return tuple(model.tokenizer.encode_context(text))


def same(predictions, expected, *, tolerance=1e-5):
    """Compare word by word, in order; words closer than rounding may stand either way."""
    assert len(predictions) == len(expected)
    assert [p.rank for p in predictions] == list(range(1, len(expected) + 1))
    probabilities = dict(expected)
    for prediction, (_, probability) in zip(predictions, expected, strict=True):
        assert prediction.probability == pytest.approx(probability, rel=tolerance)
        assert prediction.probability == pytest.approx(
            probabilities[prediction.word], rel=tolerance
        )
        assert prediction.log_prob == pytest.approx(math.log(probability), abs=2 * tolerance)
    assert len({p.word for p in predictions}) == len(predictions)


@seeds
@pytest.mark.parametrize("text", ["", "ab, (cab", "ab\n"])
def test_every_outcome_together_is_certain(seed, text):
    model = told(letters(), seed=seed)
    found = outcomes(model, context_of(model, text))
    assert len(found) > 1000
    assert sum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-5)
    answer = run(next_word(model, text, top_k=ALL, words_only=False), model)
    # The whole of it was seen, but for what no word is: a sentence that ends within a word, and
    # tokens side by side that the tokenizer writes otherwise.
    tokenizer = model.tokenizer
    no_word = [
        math.exp(log_prob)
        for ids, log_prob in found.items()
        if (len(ids) > 1 and ids[-1] == tokenizer.eos_id) or not written(tokenizer, ids)
    ]
    assert len(no_word) > 100
    assert answer.covered_mass + sum(no_word) == pytest.approx(1, abs=1e-5)
    assert answer.proven


@seeds
@pytest.mark.parametrize("words_only", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_the_top_is_that_of_the_enumeration(seed, words_only, temperature):
    model = told(letters(), seed=seed)
    found = outcomes(model, context_of(model, "ab"), temperature=temperature)
    expected = words(model.tokenizer, found, words_only=words_only)
    assert len(expected) > 50
    for top_k in (1, 2, 3, 7, 40, ALL):
        question = next_word(
            model, "ab", top_k=top_k, words_only=words_only, temperature=temperature
        )
        answer = run(question, model)
        same(answer.predictions, expected[:top_k])
        assert answer.proven
        assert answer.entropy_bits is None
        assert answer.oov_mass == 0
        listed = sum(p.probability for p in answer.predictions)
        assert listed - 1e-6 <= answer.covered_mass <= 1


@seeds
def test_what_is_excluded_makes_room(seed):
    model = told(letters(), seed=seed)
    for words_only in (True, False):
        expected = words(model.tokenizer, outcomes(model, context_of(model)), words_only=words_only)
        exclude = [word for word, _ in expected[:6:2]]
        answer = run(next_word(model, "", top_k=5, exclude=exclude, words_only=words_only), model)
        same(answer.predictions, [pair for pair in expected if pair[0] not in exclude][:5])


@seeds
@pytest.mark.parametrize("words_only", [True, False])
@pytest.mark.parametrize("prefix", ["a", "ab", "b", "aba", "bab", "é", "ab'"])
def test_behind_a_prefix_probabilities_are_given_it(seed, words_only, prefix):
    model = told(letters(), seed=seed)
    tokenizer, typed = model.tokenizer, prefix.encode()
    # With punctuation, what joins its left neighbour begins so too.
    beginnings = (typed,) if words_only else (typed, b"\x01" + typed)
    found = outcomes(model, context_of(model, "ab"))
    begun = {
        ids: log_prob
        for ids, log_prob in found.items()
        if text_of(tokenizer, ids).startswith(beginnings)
        and written(tokenizer, covering(tokenizer, ids, beginnings))
    }
    whole = dict(words(tokenizer, begun, words_only=words_only))
    if prefix == "ab'" and not words_only:
        # With punctuation, a quotation mark that touches the finished ``ab`` is written so too.
        head = tuple(tokenizer.encode("ab").token_ids)
        before = found[head]
        marks = {
            ids: before + log_prob
            for ids, log_prob in outcomes(model, (*context_of(model, "ab"), *head)).items()
            if text_of(tokenizer, ids).startswith(b"\x01'")
        }
        for word, p in words(tokenizer, marks, words_only=False):
            whole["ab" + word] = p
        begun |= {(*head, *ids): log_prob for ids, log_prob in marks.items()}
    mass = sum(map(math.exp, begun.values()))
    expected = sorted(((word, p / mass) for word, p in whole.items()), key=lambda pair: -pair[1])
    for top_k in (1, 3, ALL):
        question = next_word(model, "ab", top_k=top_k, prefix=prefix, words_only=words_only)
        answer = run(question, model)
        same(answer.predictions, expected[:top_k])
        assert answer.proven
    finished = sum(
        math.exp(p)
        for ids, p in begun.items()
        if ids[-1] != tokenizer.eos_id and written(tokenizer, ids)
    )
    assert answer.covered_mass == pytest.approx(finished / mass, abs=1e-5)


def covering(tokenizer, ids, beginnings):
    """Return the tokens up to the one with which the prefix is all there."""
    return next(
        ids[:n]
        for n in range(1, len(ids) + 1)
        if text_of(tokenizer, ids[:n]).startswith(beginnings)
    )


def test_a_prefix_that_cannot_be_has_no_words():
    model = told(letters())
    answer = run(next_word(model, "ab", prefix="zzz"), model)
    assert answer.predictions == []
    assert answer.covered_mass == 0


def test_the_best_word_may_take_four_pieces():
    """Its first piece is the most probable by little; greedy search and short words lose it."""
    tokenizer = letters()
    live = np.flatnonzero([
        (piece in (b"a", b"b", b"c") and not end) or (piece in (b"c", b"ab", b"abc") and end)
        for piece, end in zip(tokenizer.pieces, tokenizer.is_word_end, strict=True)
    ])  # fmt: skip
    pieces = tokenizer.encode("bbbac").token_ids
    assert len(pieces) >= 4
    model = told(tokenizer, live=live, scale=0.1, most_pieces=len(pieces))
    tell = model.network.tell

    def insistent(history):
        row = tell(history).copy()
        done = history[1:]
        if done == tuple(pieces[: len(done)]) and len(done) < len(pieces):
            row[pieces[len(done)]] += 3.0
        return row

    model.network.tell = insistent
    expected = words(tokenizer, outcomes(model, context_of(model)))
    assert expected[0][0] == "bbbac"
    answer = run(next_word(model, "", top_k=3), model)
    same(answer.predictions, expected[:3])


@seeds
@pytest.mark.parametrize("num_words", [2, 3])
def test_phrases_are_those_of_the_enumeration(seed, num_words):
    tokenizer = letters()
    live = np.flatnonzero([
        (piece in (b"a", b"c") and not end) or (piece in (b"c", b"ab", b"abc", b",") and end)
        for piece, end in zip(tokenizer.pieces, tokenizer.is_word_end, strict=True)
    ])  # fmt: skip
    model = told(tokenizer, seed=seed, live=[tokenizer.eos_id, *live], most_pieces=2)
    phrases = {((), ()): 0.0}
    for _ in range(num_words):
        longer = {}
        for (texts, ids), log_prob in phrases.items():
            found = outcomes(model, (*context_of(model), *ids))
            for more, p in found.items():
                for word, _ in words(tokenizer, {more: p}):
                    longer[(*texts, word), (*ids, *more)] = log_prob + p
        phrases = longer
    expected = sorted(
        ((" ".join(texts), math.exp(p)) for (texts, _), p in phrases.items()),
        key=lambda item: -item[1],
    )
    for top_k in (1, 5, 30):
        answer = run(next_word(model, "", top_k=top_k, num_words=num_words), model)
        same(answer.predictions, expected[:top_k])
        assert answer.proven


@seeds
def test_a_phrase_behind_a_prefix(seed):
    model = told(letters(), seed=seed, most_pieces=2)
    answer = run(next_word(model, "", top_k=4, num_words=2, prefix="ab"), model)
    first = run(next_word(model, "", top_k=ALL, prefix="ab"), model)
    pairs = []
    for word in first.predictions:
        second = run(next_word(model, word.word, top_k=4), model)
        pairs += [
            (f"{word.word} {p.word}", word.probability * p.probability) for p in second.predictions
        ]
    same(answer.predictions, sorted(pairs, key=lambda item: -item[1])[:4])


@seeds
def test_a_prediction_has_the_probability_that_score_gives_the_word(seed):
    model = told(letters(), seed=seed)
    answer = run(next_word(model, "ab, cab", top_k=10), model)
    for p in answer.predictions:
        scored = run(score(model, p.word, context="ab, cab", eos=False), model)
        assert scored.log_prob == pytest.approx(p.log_prob, abs=1e-5)


def test_a_search_that_gives_up_says_so(monkeypatch):
    model = told(letters(), scale=0.1)
    monkeypatch.setattr("models.next_word.MOST_EXPANSIONS", 20)
    answer = run(next_word(model, "", top_k=100), model)
    assert not answer.proven
    assert 0 < answer.covered_mass < 0.9
    assert run(next_word(model, "", top_k=1), model).predictions


def test_phrases_too_many_to_prove_are_still_found(monkeypatch):
    model = told(letters())
    proven = run(next_word(model, "ab", top_k=3, num_words=2), model)
    monkeypatch.setattr("models.next_word.MOST_EXPANSIONS", 2)
    answer = run(next_word(model, "ab", top_k=3, num_words=2), model)
    assert proven.proven
    assert not answer.proven
    # So few words are possible here that the beam holds them all.
    assert [p.word for p in answer.predictions] == [p.word for p in proven.predictions]
    for found, true in zip(answer.predictions, proven.predictions, strict=True):
        assert found.log_prob == pytest.approx(true.log_prob, abs=1e-5)


@pytest.mark.parametrize("most_expansions", [2048, 2])
def test_an_excluded_word_is_in_no_phrase(monkeypatch, most_expansions):
    model = told(letters())
    monkeypatch.setattr("models.next_word.MOST_EXPANSIONS", most_expansions)
    before = run(next_word(model, "ab", top_k=3, num_words=2), model)
    word = before.predictions[0].word.split()[0]
    answer = run(next_word(model, "ab", top_k=3, num_words=2, exclude=[word]), model)
    assert len(answer.predictions) == 3
    assert all(word not in p.word.split() for p in answer.predictions)


def test_a_typed_mark_is_itself_what_comes_next():
    model = told(letters())
    asked = {"prefix": ",", "words_only": False, "candidates": [",", "a"]}
    answer = run(next_word(model, "ab", **asked), model)
    assert [p.word for p in answer.predictions] == [","]
    mark, letter = answer.candidates
    assert mark.probability == pytest.approx(answer.predictions[0].probability, abs=1e-6)
    assert 0 < mark.probability <= 1
    assert letter.probability == 0


def test_a_mark_of_many_spellings_is_one_entry_of_the_list():
    """All spellings of a comma stand above every word, and still the list has other entries."""
    tokenizer = letters()
    commas = tokenizer.spellings(",")
    assert len(commas) == 4
    model = told(tokenizer, root={ids[0]: 8.0 for ids in commas})
    expected = words(tokenizer, outcomes(model, context_of(model)), words_only=False)
    for top_k in (1, 2, 3, 5):
        answer = run(next_word(model, "", top_k=top_k, words_only=False), model)
        same(answer.predictions, expected[:top_k])
