"""The highest of many numbers, against a plain sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.selection import at_least, best_first
from tests.models.helpers import bounded

few = st.integers(0, 5).map(float)  # so that many are equal
numbers = st.lists(few | st.floats(-50, 0), min_size=1, max_size=300).map(np.array)


@bounded(200)
@given(numbers, st.data())
def test_so_many_reach_it(log_probs, data):
    which = np.array(data.draw(st.lists(st.integers(0, len(log_probs) - 1), unique=True)), int)
    count = data.draw(st.none() | st.integers(1, 320))
    least = at_least(log_probs, which, count)
    if count is None or count > len(which):
        assert least == -np.inf
    else:
        assert (log_probs[which] >= least).sum() >= count
        assert least in log_probs[which]


@bounded(200)
@given(numbers, st.integers(1, 320))
def test_the_best_in_order_and_all_that_equal_the_last(log_probs, most):
    found = best_first(log_probs, most=most)
    wanted = np.argsort(-log_probs, kind="stable")
    assert found == wanted[: len(found)].tolist()
    assert len(found) >= min(most, len(log_probs))
    if most < len(log_probs):
        assert len(found) == (log_probs >= log_probs[wanted[most - 1]]).sum()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_of_many_it_is_near_the_exact_one(count):
    log_probs = np.random.default_rng(0).normal(size=8192).astype(np.float32)
    exact = np.sort(log_probs)[-count]
    least = at_least(log_probs, np.arange(8192), count)
    assert least <= exact
    assert (log_probs >= least).sum() <= 2 * count + 4
