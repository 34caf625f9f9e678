"""The children of unfinished words against a plain sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.children import ChildFinder
from tests.models.helpers import bounded, tokenizer_of

TOKENIZER = tokenizer_of("subword")
V = TOKENIZER.vocab_size


def distribution(seed, spread, equal):
    """Return log-probabilities (V,), float32; with ``equal`` many are the same, some -inf."""
    logits = np.random.default_rng(seed).normal(size=V) * spread
    if equal:
        logits = np.where(logits > spread, -np.inf, np.round(logits))
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def every(children):
    found = []
    while (child := children.get(len(found))) is not None:
        found.append(child)
    return found


distributions = st.builds(
    distribution, st.integers(0, 99), st.sampled_from([0.1, 1, 5]), st.booleans()
)
befores = st.floats(-30, 0)


@pytest.mark.parametrize("words_only", [True, False])
@bounded(60)
@given(distributions, befores, st.none() | st.integers(1, 90), st.booleans())
def test_any(words_only, log_probs, before, enough, start):
    finder = ChildFinder(TOKENIZER, words_only=words_only, enough=enough, slack=0.5)
    root, _ = finder.any(log_probs, 0.0, start=True, root=True)
    inner, mass = finder.any(log_probs, before, start=start, root=False)
    root, inner, floor = every(root), every(inner), finder.floor
    singles = np.sort(log_probs[TOKENIZER.single_words])
    if enough is None or enough > len(singles):
        assert floor == -np.inf
    else:
        assert floor <= singles[-enough] - 0.5 + 1e-6
    allowed = TOKENIZER.word_starts if words_only else TOKENIZER.unit_starts
    for found, first, base in ((root, True, 0.0), (inner, start, before)):
        mask = allowed if first else TOKENIZER.is_piece
        needed = [i for i in np.flatnonzero(mask) if log_probs[i] > -np.inf]
        needed = [i for i in needed if log_probs[i] + base >= max(floor, -1e30)]
        values = {int(i): float(np.float64(log_probs[i]) + base) for i in np.flatnonzero(mask)}
        assert {i for i, _ in found} >= {int(i) for i in needed}
        assert all(values[i] == log_prob for i, log_prob in found)
        assert found == sorted(found, key=lambda child: (-child[1], child[0]))
        assert len({i for i, _ in found}) == len(found)
    wanted = np.exp(log_probs.astype(np.float64))[TOKENIZER.is_word_end].sum()
    assert mass == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("start", [True, False])
@bounded(60)
@given(distributions, befores, st.binary(min_size=1, max_size=2))
def test_covering(start, log_probs, before, rest):
    ids = TOKENIZER.completions(rest)
    finder = ChildFinder(TOKENIZER, words_only=True, enough=3, slack=0.0)
    children, mass, finished = finder.covering(log_probs, before, ids, start=start)
    fitting = ids[TOKENIZER.word_starts[ids]] if start else ids
    values = {int(i): float(np.float64(log_probs[i]) + before) for i in fitting}
    found = every(children)
    assert dict(found) == values
    assert [log_prob for _, log_prob in found] == sorted(values.values(), reverse=True)
    probabilities = np.exp(log_probs[ids].astype(np.float64))
    assert mass == pytest.approx(probabilities.sum(), rel=1e-9)
    assert finished == pytest.approx(probabilities[TOKENIZER.is_word_end[ids]].sum(), rel=1e-9)
