"""What a history says comes next, against counting by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.history import History, Repeats, Strengths
from tests.models.helpers import bounded, tokenizer_of

STRENGTHS = Strengths(between=(7.0, 3.0, 2.0), within=(2.0, 1.0, 0.5))
every_tokenizer = pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
TEXT = "the cat sees a dog.\nAnna sees a dog, the cat sees a room.\n\nthe cats"


def by_hand(history: History, recent: list[int], network: np.ndarray) -> np.ndarray:
    """Return the mixed distribution (V,), each length of match counted from the beginning."""
    ids = history.token_ids.tolist()
    strengths = STRENGTHS.within if history.is_inside(recent[-1]) else STRENGTHS.between
    mixed = network.copy()
    for length, strength in enumerate(strengths, start=1):
        if length > len(recent):
            break
        followed = Counter(
            ids[i] for i in range(length, len(ids)) if ids[i - length : i] == recent[-length:]
        )
        total = sum(followed.values())
        if total:
            share = total / (total + strength * len(followed))
            mixed *= 1 - share
            for token, count in followed.items():
                mixed[token] += share * count / total
    return mixed


def dense(repeats: Repeats, network: np.ndarray) -> np.ndarray:
    mixed = network * repeats.kept
    mixed[repeats.token_ids] += repeats.shares
    return mixed


@every_tokenizer
def test_each_length_of_match_backs_off_to_the_next(tokenizer):
    tokenizer = tokenizer_of(tokenizer)
    history = History(tokenizer, TEXT, STRENGTHS)
    network = np.random.default_rng(0).dirichlet(np.ones(tokenizer.vocab_size))
    ids = history.token_ids.tolist()
    lengths = set()
    for start in range(len(ids) - 4):
        for recent in (ids[start : start + 1], ids[start : start + 5], [ids[0], ids[start]]):
            repeats = history.repeats(recent)
            lengths.add(len(list(history.matches(recent))))
            np.testing.assert_allclose(dense(repeats, network), by_hand(history, recent, network))
            assert repeats.kept + repeats.shares.sum() == pytest.approx(1)
            for token in range(tokenizer.vocab_size):
                at = np.flatnonzero(repeats.token_ids == token)
                assert repeats.share(token) == (repeats.shares[at[0]] if len(at) else 0)
    assert {1, 2, 3} <= lengths


def test_what_never_occurred_says_nothing():
    tokenizer = tokenizer_of("subword")
    history = History(tokenizer, "the cat")
    absent = next(i for i in range(tokenizer.vocab_size) if i not in history.token_ids)
    repeats = history.repeats([tokenizer.eos_id, absent])
    assert repeats.kept == 1
    assert len(repeats.token_ids) == 0
    assert repeats.share(0) == 0


@every_tokenizer
@pytest.mark.parametrize("text", ["", " ", "\n\n", " \t\r\n"])
def test_white_space_is_no_history(tokenizer, text):
    assert not History(tokenizer_of(tokenizer), text)
    assert History(tokenizer_of(tokenizer), text + "a" + text)


def test_lines_are_sentences_however_they_end():
    tokenizer = tokenizer_of("subword")
    expected = History(tokenizer, "the cat\na dog").token_ids.tolist()
    assert expected.count(tokenizer.eos_id) == 3
    for text in ("the cat\r\na dog\n", "\n the cat\n\n\na dog\r\r"):
        assert History(tokenizer, text).token_ids.tolist() == expected


@given(st.text(max_size=60), st.lists(st.integers(0, 319), min_size=1, max_size=6))
@bounded(200)
def test_any_text_behind_any_history_sums_to_one(text, recent):
    tokenizer = tokenizer_of("subword")
    recent = [token % tokenizer.vocab_size for token in recent]
    repeats = History(tokenizer, text).repeats(recent)
    assert 0 < repeats.kept <= 1
    assert repeats.kept + repeats.shares.sum() == pytest.approx(1)
    assert (repeats.shares > 0).all()
    assert (np.diff(repeats.token_ids) > 0).all()
