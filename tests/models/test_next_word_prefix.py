"""A typed prefix of several units, and what no word begins with."""

import math

import pytest

from models.errors import InvalidRequestError
from models.forward import run
from models.next_word import next_word
from models.score import score
from tests.models.enumeration import letters, told
from tests.models.helpers import model_of


def test_what_was_finished_before_the_prefix_is_read_as_context():
    """``ab-`` is a word and a mark that joins both sides; then a word that begins so."""
    model = told(letters(), live=range(letters().vocab_size), most_pieces=3, scale=4.0)
    typed = run(next_word(model, "cab", prefix="ab-a", top_k=5), model)
    tokenizer = model.tokenizer
    encoding = tokenizer.encode("ab-a")
    assert len(encoding.words) == 3
    head = encoding.token_ids[: encoding.words[-1].first]
    tell, history = model.network.tell, tuple(tokenizer.encode_context("cab"))
    model.network.tell = lambda h: tell((*history, *head, *h[len(history) :]))
    plain = run(next_word(model, "cab", prefix="a", top_k=5), model)
    assert [p.word for p in typed.predictions] == ["ab-" + p.word for p in plain.predictions]
    for one, other in zip(typed.predictions, plain.predictions, strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize(
    "prefix", ["t", "th", "New", "don'", "doesn'", "e-ma", "(t", ",", "_", "é", "a.", "''", "\x01"]
)
def test_every_prediction_begins_with_the_prefix(kind, prefix):
    model = model_of(kind)
    answer = run(next_word(model, "the cat", prefix=prefix, top_k=5), model)
    assert answer.proven
    if prefix.isalpha():
        assert len(answer.predictions) == 5
    for p in answer.predictions:
        assert p.word.startswith(prefix)
        assert 0 < p.probability <= 1
        # As one word, or as the units that stand before it and one word more.
        spans = model.tokenizer.encode(p.word).words
        typed = model.tokenizer.encode(prefix + "a").words
        assert len(spans) == len(typed)


@pytest.mark.parametrize("prefix", ["doesn'", "teacher'", "can'"])
def test_an_inner_apostrophe_does_not_end_the_word(prefix):
    """A tokenizer of words knows one word that begins so."""
    model = model_of("lstm", "word")
    answer = run(next_word(model, "the cat", prefix=prefix), model)
    (only,) = [p.decode() for p in model.tokenizer.pieces if p.startswith(prefix.encode())]
    assert [p.word for p in answer.predictions] == [only]
    assert answer.predictions[0].probability == pytest.approx(1)
    assert answer.covered_mass == pytest.approx(1)


@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
@pytest.mark.parametrize("prefix", ["\x00", "\x01", "\u0301", "'", "-", "<", "</s", "😀", "a\x01"])
def test_odd_prefixes_have_an_answer(tokenizer, prefix):
    model = model_of("gru", tokenizer)
    answer = run(next_word(model, "The cat", prefix=prefix, top_k=3), model)
    assert all(p.word.startswith(prefix) for p in answer.predictions)
    run(next_word(model, "The cat", prefix=prefix, top_k=3, words_only=False), model)


def test_a_prefix_and_its_words_multiply_to_what_score_says():
    model = model_of("lstm")
    answers = {
        prefix: run(next_word(model, "Anna", prefix=prefix, candidates=["doesn't"]), model)
        for prefix in ("", "d", "does", "doesn'")
    }
    scored = run(score(model, "doesn't", context="Anna", eos=False), model)
    shares = [answer.candidates[0].probability for answer in answers.values()]
    assert shares[0] == pytest.approx(math.exp(scored.log_prob), rel=1e-4)
    assert shares == sorted(shares)  # the more is typed, the surer it gets
    assert shares[-1] > shares[0]


@pytest.mark.parametrize("prefix", ["a b", " ", "a\n", "\u2003", "a\x1c"])
def test_white_space_in_a_prefix_is_refused(prefix):
    model = model_of("lstm")
    with pytest.raises(InvalidRequestError) as refused:
        run(next_word(model, "the", prefix=prefix), model)
    assert refused.value.field == "prefix"


def test_a_long_prefix_is_typed_through():
    """A hundred pieces, each of which other pieces could cover: the usual ones hold the mass."""
    tokenizer = letters()
    word = "abcab" * 30
    pieces = tokenizer.encode(word).token_ids
    assert len(pieces) > 50
    model = told(tokenizer, scale=0.1, most_pieces=1000)
    tell = model.network.tell

    def usual(history):
        row, done = tell(history).copy(), history[1:]
        if done == tuple(pieces[: len(done)]) and len(done) < len(pieces):
            row[pieces[len(done)]] += 20
        return row

    model.network.tell = usual
    answer = run(next_word(model, "", prefix=word[:-1], top_k=1), model)
    assert answer.proven
    assert answer.predictions[0].word == word
    assert answer.predictions[0].probability == pytest.approx(1, abs=1e-5)
