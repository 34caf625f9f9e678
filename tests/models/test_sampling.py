"""Choosing a token: each filter against a plain one, and the frequencies of what is drawn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sampling import (
    Filters,
    choose,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)
from tests.models.helpers import bounded

ROWS = st.lists(st.floats(-30, 0), min_size=2, max_size=12)


def log_softmax(values):
    values = np.array(values, dtype=float)
    return values - np.log(np.exp(values).sum())


def kept(filtered):
    return {int(i) for i in np.flatnonzero(filtered > -np.inf)}


@given(ROWS, st.integers(1, 14))
@bounded(150)
def test_top_k_keeps_the_most_probable_and_equals_of_the_last(values, k):
    row = log_softmax(values)
    last = sorted(row, reverse=True)[min(k, len(row)) - 1]
    filtered = keep_top_k(row, k)
    assert kept(filtered) == {i for i, p in enumerate(row) if p >= last}
    assert all(filtered[i] == row[i] for i in kept(filtered))


@given(ROWS, st.floats(0, 1))
@bounded(150)
def test_top_p_keeps_the_fewest_that_hold_the_mass(values, p):
    row = log_softmax(values)
    filtered = kept(keep_top_p(row, p))
    mass = math.fsum(math.exp(row[i]) for i in filtered)
    least = min(filtered, key=lambda i: row[i])
    assert filtered
    assert mass >= p - 1e-9
    assert max((row[i] for i in range(len(row)) if i not in filtered), default=-99) <= row[least]
    if p < 1 and len(filtered) > 1:
        assert mass - math.exp(row[least]) < p + 1e-9


@given(ROWS, st.floats(0, 1))
@bounded(150)
def test_min_p_keeps_what_has_a_share_of_the_best(values, p):
    row = log_softmax(values)
    filtered = kept(keep_min_p(row, p))
    probabilities = np.exp(row)
    assert int(np.argmax(row)) in filtered
    for i, probability in enumerate(probabilities):
        if not math.isclose(probability, p * probabilities.max(), rel_tol=1e-9):
            assert (i in filtered) == (probability > p * probabilities.max())


@given(ROWS, st.floats(1, 3), st.sets(st.integers(0, 1)))
@bounded(100)
def test_a_penalty_multiplies_the_log_probabilities_of_what_was_seen(values, penalty, seen):
    row = log_softmax(values)
    before = row.copy()
    penalised = penalise_repetition(row, seen, penalty)
    for i, value in enumerate(row):
        assert penalised[i] == pytest.approx(value * (penalty if i in seen else 1))
    assert (row == before).all()


ROW = np.log([0.4, 0.25, 0.2, 0.1, 0.05])

FILTERS = [
    (Filters(), [0.4, 0.25, 0.2, 0.1, 0.05]),
    (Filters(temperature=0.5), np.array([0.4, 0.25, 0.2, 0.1, 0.05]) ** 2),
    (Filters(temperature=2.0), np.array([0.4, 0.25, 0.2, 0.1, 0.05]) ** 0.5),
    (Filters(top_k=2), [0.4, 0.25, 0, 0, 0]),
    (Filters(top_p=0.7), [0.4, 0.25, 0.2, 0, 0]),
    (Filters(min_p=0.4), [0.4, 0.25, 0.2, 0, 0]),
    (Filters(repetition_penalty=2.0), [0.4, 0.25**2, 0.2, 0.1**2, 0.05]),
    # In this order: the temperature decides how much top-p keeps.
    (Filters(temperature=0.5, top_p=0.7), [0.4**2, 0.25**2, 0, 0, 0]),
    (Filters(top_k=3, top_p=0.8, min_p=0.6), [0.4, 0.25, 0, 0, 0]),
]


@pytest.mark.parametrize(("filters", "shares"), FILTERS)
def test_frequencies_are_those_of_the_filtered_distribution(filters, shares):
    random, draws = np.random.default_rng(0), 4000
    expected = np.array(shares) / sum(shares)
    counts = np.bincount([choose(ROW, {1, 3}, filters, random) for _ in range(draws)], minlength=5)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - draws * expected)[possible] ** 2 / (draws * expected)[possible]).sum()
    # 99.9 % of all seeds stay below this with four degrees of freedom, and more with fewer.
    assert chi_square < 18.5


@pytest.mark.parametrize("penalty", [1.0, 3.0])
def test_temperature_zero_takes_the_most_probable(penalty):
    filters = Filters(temperature=0, top_k=1, repetition_penalty=penalty)
    random = np.random.default_rng(0)
    before = random.bit_generator.state
    assert choose(ROW, {0}, filters, random) == (0 if penalty == 1 else 1)
    assert random.bit_generator.state == before


@given(ROWS, st.integers(0, 2**32), st.floats(1e-3, 1e3))
@bounded(150)
def test_what_must_never_come_never_comes(values, seed, temperature):
    row = log_softmax(values)
    row[0] = -np.inf
    random = np.random.default_rng(seed)
    filters = Filters(temperature=temperature)
    assert all(choose(row, {0}, filters, random) != 0 for _ in range(20))


@given(ROWS, st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1.0, 2.0]))
@bounded(150)
def test_one_token_can_be_ruled_out(values, seed, temperature, penalty):
    row = log_softmax(values)
    never = int(np.argmax(row))
    without = row.copy()
    without[never] = -np.inf
    before = row.copy()
    filters = Filters(temperature=temperature, repetition_penalty=penalty)
    draws = [np.random.default_rng(seed) for _ in range(2)]
    for _ in range(5):
        token = choose(row, {0, never}, filters, draws[0], never=never)
        assert token == choose(without, {0, never}, filters, draws[1]) != never
    assert (row == before).all()


@pytest.mark.parametrize("temperature", [1e-300, 5e-324])
def test_a_tiny_temperature_is_nearly_greedy(temperature):
    random = np.random.default_rng(0)
    assert choose(ROW, (), Filters(temperature=temperature), random) == 0


class Edge:
    """A generator that draws the numbers at the edges of the unit interval."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


@pytest.mark.parametrize("value", [0.0, np.nextafter(1.0, 0.0)])
def test_the_edges_of_the_unit_interval_draw_possible_tokens(value):
    row = np.array([-np.inf, -1.0, -2.0, -np.inf])
    assert choose(row, (), Filters(), Edge(value)) == (1 if value == 0 else 2)
