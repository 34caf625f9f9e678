"""Spoiled sentences differ in nothing but what they are spoiled in."""

import math
from collections import Counter

import numpy as np
import pytest

from training.pairs import accuracy, make_pairs

NAMES = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("ano", "eri", "ulo") for c in "kmt"]


@pytest.fixture
def path(tmp_path):
    random = np.random.default_rng(0)
    common = [f"{a}{b}" for a in "abcdefghijklmno" for b in "uvwxyzklmn"]  # function words
    lines = []
    for i in range(600):
        rare = NAMES[int(random.zipf(1.3)) % len(NAMES)]
        some = random.choice(common, size=6)
        lines.append(
            f'"{some[0]} {some[1]}, {some[2]} the {rare} {some[3]} - {some[4]} ({some[5]})!'
        )
        lines += [" ".join(common)] if i % 5 == 0 else []
    path = tmp_path / "valid.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_shuffle_has_the_words_of_its_sentence_in_another_order(path):
    pairs = make_pairs(path, 100).order
    assert len(pairs) == 100
    for pair in pairs:
        strip = str.maketrans("", "", '",()!-')
        true, spoiled = (text.translate(strip).split() for text in (pair.true, pair.spoiled))
        assert Counter(true) == Counter(spoiled)
        assert true != spoiled
        marks = [[c for c in text if c in '",()!-'] for text in (pair.true, pair.spoiled)]
        assert marks[0] == marks[1]


def test_a_swap_is_of_two_content_words_as_frequent(path):
    pairs = make_pairs(path, 300)
    assert len(pairs.choice) > 100
    for pair in pairs.choice:
        true, spoiled = pair.words
        assert true in NAMES
        assert spoiled in NAMES
        assert int(math.log2(pairs.counts[true])) == int(math.log2(pairs.counts[spoiled]))
        assert true[:4] != spoiled[:4]
        assert pair.spoiled == pair.true.replace(true, spoiled)
    assert pairs.unigram_accuracy() == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_makes_the_same_pairs(path):
    assert make_pairs(path, 50, seed=1) == make_pairs(path, 50, seed=1)
    assert make_pairs(path, 50, seed=1) != make_pairs(path, 50, seed=2)


def test_accuracy_counts_a_tie_as_a_half(path):
    pairs = make_pairs(path, 40).order
    true = {pair.true for pair in pairs}
    assert accuracy(pairs, lambda texts: [float(t in true) for t in texts]).mean() == 1
    assert accuracy(pairs, lambda texts: [-float(t in true) for t in texts]).mean() == 0
    assert accuracy(pairs, lambda texts: [0.0 for _ in texts]).mean() == 0.5
