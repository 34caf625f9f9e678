"""Tokens that are never written side by side, against the encoder itself."""

from itertools import pairwise, product

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.models import BPE, WordLevel

from models.tokenizers import train_tokenizer
from models.tokenizers.merges import UNCLEAR, Merges
from tests.models.enumeration import letters
from tests.models.helpers import bounded, subwords_with, tokenizer_of


def written(backend, ids):
    """Return what the encoder makes of the text of some tokens."""
    return [t.id for t in backend.model.tokenize("".join(map(backend.id_to_token, ids)))]


def assert_right(merges, backend, tokens):
    """Every pair of ``tokens`` is judged as the encoder does."""
    for one in tokens:
        never = merges.never_follow(one)
        for other in tokens:
            assert never[other] == (written(backend, [one, other]) != [one, other])


@pytest.mark.parametrize("tokenizer", [letters(), tokenizer_of("subword")])
def test_every_pair_is_judged_as_the_encoder_does(tokenizer):
    grown = np.flatnonzero(tokenizer.merges.rank >= 0).tolist()
    assert len(grown) > 10
    bytes_of_them = [tokenizer._backend.token_to_id(character) for character in "abthe.\u0121"]
    assert_right(tokenizer.merges, tokenizer._backend, [*grown, *filter(None, bytes_of_them)])


@bounded(40)
@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=8))
def test_two_letters_repeated(lines):
    """Equal neighbours are merged from the left, which a table could get wrong."""
    tokenizer = train_tokenizer("subword", lines, vocab_size=270)
    grown = np.flatnonzero(tokenizer.merges.rank >= 0).tolist()
    assert_right(tokenizer.merges, tokenizer._backend, grown)


@bounded(200)
@given(st.lists(st.integers(0, 300), min_size=2, max_size=5))
def test_tokens_that_stand_side_by_side_in_pairs_do_so_together(drawn):
    tokenizer = tokenizer_of("subword")
    merges, backend = tokenizer.merges, tokenizer._backend
    assert tokenizer.pairs_spell
    tokens = (1 + np.array(drawn) % (tokenizer.vocab_size - 1)).tolist()
    pairs = all(not merges.never_follow(one)[other] for one, other in pairwise(tokens))
    assert pairs == (written(backend, tokens) == tokens)


VOCABULARY = {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "ca": 6, "abcab": 7}
TWO_WAYS = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc"), ("c", "a"), ("abc", "ab")]


def test_of_a_token_with_two_ways_to_it_nothing_is_told():
    backend = tokenizers.Tokenizer(BPE(VOCABULARY, TWO_WAYS))
    merges = Merges.of(backend.to_str(), len(VOCABULARY))
    assert np.flatnonzero(merges.last == UNCLEAR).tolist() == [5, 7]
    assert not merges.never_follow(5).any()
    assert not merges.never_follow(7).any()
    assert not any(merges.never_follow(i)[[5, 7]].any() for i in range(len(VOCABULARY)))
    assert merges.never_follow(0).any()
    for text in map("".join, product("abc", repeat=7)):
        for one, other in pairwise(t.id for t in backend.model.tokenize(text)):
            assert not merges.never_follow(one)[other]


def test_a_merge_that_comes_before_its_half_holds_for_nothing():
    vocabulary = {"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4, "abc": 5, "cd": 6}
    merges = [("ab", "c"), ("c", "d"), ("a", "b")]
    backend = tokenizers.Tokenizer(BPE(vocabulary, merges))
    assert [t.value for t in backend.model.tokenize("abcd")] == ["ab", "cd"]
    assert not Merges.of(backend.to_str(), 7).never_follow(4).any()


@pytest.mark.parametrize(
    "unusual",
    [
        {"added": [["q", "x"], ["x", "j"], ["qx", "j"], ["q", "xj"]]},  # two ways to one token
        {"added": [["q", "x"], ["x", "j"], ["q", "xj"]]},  # the last is never reached
        {"added": [], "vocabulary": ["qxj"]},
        {"added": [["q", "x"]], "normalizer": {"type": "Lowercase"}},
        {"added": [["q", "x"]], "ignore_merges": True},
        {"added": [["q", "x"]], "dropout": 0.5},
    ],
)
def test_pairs_spell_only_where_nothing_else_makes_tokens(unusual):
    assert subwords_with([["q", "x"]]).pairs_spell
    assert not subwords_with(**unusual).pairs_spell


@pytest.mark.parametrize(
    "model",
    [
        BPE(VOCABULARY, TWO_WAYS, ignore_merges=True),
        BPE(VOCABULARY, TWO_WAYS, dropout=0.1),
        WordLevel({"a": 0, "b": 1}, unk_token="a"),
    ],
)
def test_where_other_rules_hold_nothing_is_told(model):
    merges = Merges.of(tokenizers.Tokenizer(model).to_str(), len(VOCABULARY))
    assert not any(merges.never_follow(i).any() for i in range(len(VOCABULARY)))


def test_what_is_never_predicted_is_left_out():
    backend = tokenizers.Tokenizer(BPE(VOCABULARY, TWO_WAYS))
    fewer, all_of_them = (Merges.of(backend.to_str(), size).never_follow(3) for size in (7, 8))
    assert fewer.tolist() == all_of_them[:7].tolist() == [i in (2, 6) for i in range(7)]


@pytest.mark.parametrize("kind", ["word", "wikitext"])
def test_words_follow_any_word(kind):
    tokenizer = tokenizer_of(kind)
    assert not tokenizer.merges.never_follow(3).any()
