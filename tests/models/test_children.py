"""Children by the library and by numpy: the same, in the same order, against a plain sort."""

import numpy as np
import pytest
import torch
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
    return torch.log_softmax(torch.from_numpy(logits.astype(np.float32)), dim=0)


def finders(**options):
    """Return a finder that has the library and one that has not."""
    quick, plain = ChildFinder(TOKENIZER, **options), ChildFinder(TOKENIZER, **options)
    assert quick._native is not None
    plain._native = None
    return quick, plain


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
def test_any(words_only, source, before, enough, start):
    log_probs = source.numpy()
    sides = []
    for finder in finders(words_only=words_only, enough=enough, slack=0.5):
        root, _ = finder.any(log_probs, source, 0.0, start=True, root=True)
        inner, mass = finder.any(log_probs, source, before, start=start, root=False)
        sides.append((every(root), every(inner), mass, finder.floor))
    (root, inner, mass, floor), (plain_root, plain_inner, plain_mass, _) = sides
    singles = np.sort(log_probs[TOKENIZER.single_words])
    if enough is None or enough > len(singles):
        assert floor == -np.inf
    else:
        assert floor <= singles[-enough] - 0.5 + 1e-6
    allowed = TOKENIZER.word_starts if words_only else TOKENIZER.unit_starts
    for found, other, first, base in (
        (root, plain_root, True, 0.0),
        (inner, plain_inner, start, before),
    ):
        mask = allowed if first else TOKENIZER.is_piece
        needed = [i for i in np.flatnonzero(mask) if log_probs[i] > -np.inf]
        needed = [i for i in needed if log_probs[i] + base >= max(floor, -1e30)]
        values = {int(i): float(np.float64(log_probs[i]) + base) for i in np.flatnonzero(mask)}
        for side in (found, other):
            assert {i for i, _ in side} >= {int(i) for i in needed}
            assert all(values[i] == log_prob for i, log_prob in side)
            assert side == sorted(side, key=lambda child: (-child[1], child[0]))
            assert len({i for i, _ in side}) == len(side)
    wanted = np.exp(log_probs.astype(np.float64) + before)[TOKENIZER.is_word_end].sum()
    assert mass == pytest.approx(wanted, rel=1e-5)
    assert plain_mass == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("start", [True, False])
@bounded(60)
@given(distributions, befores, st.binary(min_size=1, max_size=2))
def test_covering(start, source, before, rest):
    ids = TOKENIZER.completions(rest)
    quick, plain = (
        finder.covering(source.numpy(), source, before, ids, start=start)
        for finder in finders(words_only=True, enough=3, slack=0.0)
    )
    assert every(quick[0]) == every(plain[0])
    log_probs = source.numpy()[ids].astype(np.float64) + before
    assert quick[1] == pytest.approx(np.exp(log_probs).sum(), rel=1e-9)
    assert quick[2] == pytest.approx(np.exp(log_probs[TOKENIZER.is_word_end[ids]]).sum(), rel=1e-9)
    assert plain[1:] == pytest.approx(quick[1:], rel=1e-9)
