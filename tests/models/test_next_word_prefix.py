"""A typed prefix of several units, and what no word begins with."""

import math

import numpy as np
import pytest

from models.errors import InvalidRequestError
from models.forward import Program, read, run
from models.language_model import LanguageModel
from models.next_character import next_character
from models.next_word import next_word
from models.prefix import split_prefix
from models.score import score
from models.search import Found, Search
from models.tokenizers import train_tokenizer
from tests.models.enumeration import letters, told
from tests.models.helpers import model_of, tokenizer_of, told_model


def begun_log_prob(
    model: LanguageModel, context: str, begun: bytes, *, words_only: bool = False
) -> float:
    """Return the log-probability that the next unit begins so, over all ways of writing it."""

    def program() -> Program[Found]:
        root = yield from read(model.tokenizer.encode_context(context), None)
        return (
            yield from Search(model.tokenizer, limit=1, prefix=begun, words_only=words_only).run(
                root
            )
        )

    return run(program(), model).prefix_log_prob


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


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("stem", ["cat", "teacher"])
def test_an_apostrophe_at_the_end_may_be_a_quotation_mark(kind, stem):
    model = model_of(kind)
    typed = stem + "'"
    asked = [typed, stem + "'s"]
    answer = run(
        next_word(model, "the", prefix=typed, words_only=False, candidates=asked, top_k=9), model
    )
    within = math.exp(begun_log_prob(model, "the", typed.encode()))
    word = math.exp(run(score(model, stem, context="the", eos=False), model).log_prob)
    ended = word * math.exp(begun_log_prob(model, f"the {stem}", b"\x01'"))
    assert ended > 0
    for candidate in answer.candidates:
        whole = run(score(model, candidate.word, context="the", eos=False), model)
        share = math.exp(whole.log_prob) / (within + ended)
        assert candidate.probability == pytest.approx(share, rel=1e-4)
    probabilities = {p.word: p.probability for p in answer.predictions}
    assert sum(probabilities.values()) <= 1 + 1e-6
    least = answer.candidates[0].probability
    assert probabilities.get(typed, least) >= least
    assert typed in probabilities or least <= min(probabilities.values())
    # Where only words are asked for, it is the beginning of one.
    words = run(next_word(model, "the", prefix=typed, candidates=asked[:1]), model)
    assert typed not in {p.word for p in words.predictions}
    assert words.candidates[0].probability == 0


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


@pytest.mark.parametrize("kind", ["subword", "word", "wikitext"])
@pytest.mark.parametrize("typed", ["a", "exam", "McX", "15", "7th"])
def test_letters_and_digits_are_one_word_that_goes_on(kind, typed):
    tokenizer = tokenizer_of(kind)
    prefix = split_prefix(tokenizer, typed, words_only=True)
    assert (prefix.head, prefix.head_ids, prefix.stem, prefix.touches) == ("", (), typed, False)
    assert (prefix.begun, prefix.ended) == (typed.encode(), None)
    for text in (typed, typed + "a"):
        (span,) = tokenizer.encode(text).words
        assert (span.start, span.end, span.first) == (0, len(text), 0)


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


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_prefix_less_probable_than_any_float(kind):
    """Byte by byte, since nothing is merged of it: one way to write it."""
    model, prefix = model_of(kind), "漢" * 60
    tokenizer = model.tokenizer
    context, bytes_read = tokenizer.encode_context("the"), tokenizer.encode_ids(prefix)[:180]
    assert len({tokenizer.pieces[i] for i in bytes_read}) == 3
    rows = run(read([*context, *bytes_read], None, "all"), model).log_probs[len(context) - 1 :]
    expected = sum(float(row[i]) for row, i in zip(rows, bytes_read, strict=False))
    assert expected < math.log(5e-324)
    begun = begun_log_prob(model, "the", prefix.encode(), words_only=True)
    assert begun == pytest.approx(expected, abs=1e-3)
    answer = run(next_word(model, "the", prefix=prefix, top_k=5), model)
    assert answer.proven
    assert len(answer.predictions) == 5
    for p in answer.predictions:
        whole = run(score(model, p.word, context="the", eos=False), model)
        assert p.log_prob == pytest.approx(whole.log_prob - expected, abs=1e-3)
    assert sum(p.probability for p in answer.predictions) <= answer.covered_mass <= 1
    characters = run(next_character(model, f"the {prefix}"), model)
    letters_found = [c for c in characters if c.text.isascii() and c.text.isalpha()]
    assert len(letters_found) > 5
    behind = [
        begun_log_prob(model, "the", (prefix + c.text).encode(), words_only=True) - c.log_prob
        for c in letters_found[:5]
    ]
    assert behind == pytest.approx([behind[0]] * 5, abs=2e-3)
    assert behind[0] == pytest.approx(expected, abs=0.05)  # the sentence cannot end within a word


@pytest.mark.parametrize("prefix", [".", ",", "-", "3.", "1,", "@"])
def test_marks_of_the_corpus_are_found_by_how_they_are_typed(prefix):
    """``@.@`` is typed as a full stop, and by nobody as an at sign."""
    model = model_of("lstm", "wikitext")
    asked = [prefix] if model.tokenizer.spellings(prefix) else []
    answer = run(
        next_word(model, "the", prefix=prefix, words_only=False, candidates=asked, top_k=9), model
    )
    assert all(p.word.startswith(prefix) for p in answer.predictions)
    assert sum(p.probability for p in answer.predictions) <= 1 + 1e-6
    assert bool(answer.predictions) == (prefix != "@")
    found = {p.word: p.probability for p in answer.predictions}
    for candidate in answer.candidates:
        assert candidate.probability == pytest.approx(found[candidate.word], rel=1e-4)


def test_a_number_goes_on_behind_its_point():
    model = model_of("lstm", "wikitext")
    answer = run(next_word(model, "It is", prefix="3.", top_k=3), model)
    assert all(p.word.startswith("3.") and len(p.word) > 2 for p in answer.predictions)
    assert len(answer.predictions) == 3


@pytest.mark.parametrize("kind", ["word", "wikitext"])
def test_nobody_types_the_unknown_word(kind):
    model = model_of("gru", kind)
    assert not model.tokenizer.spellings("<")
    answer = run(next_word(model, "the", prefix="<", words_only=False), model)
    assert (answer.predictions, answer.covered_mass) == ([], 0.0)
    if kind == "word":
        assert run(next_character(model, "the <"), model) == []


def test_words_may_begin_with_an_underscore_or_an_accent():
    words = ["_foo", "_bar", "\u0301a", "\u0301b"]
    tokenizer = train_tokenizer("word", [" ".join(words) + " (_ (a"], vocab_size=40)
    model = told_model(tokenizer, lambda history: np.arange(tokenizer.vocab_size) / 9)
    for prefix in ("_", "\u0301"):
        answer = run(next_word(model, "", prefix=prefix), model)
        assert {p.word for p in answer.predictions} == {w for w in words if w[0] == prefix}
    answer = run(next_word(model, "", prefix="(_", words_only=False, candidates=["(_foo"]), model)
    found = {p.word: p.probability for p in answer.predictions}
    assert found.keys() == {"(_", "(_foo", "(_bar"}
    assert sum(found.values()) == pytest.approx(1)
    assert answer.candidates[0].probability == pytest.approx(found["(_foo"])
