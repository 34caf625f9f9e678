import numpy as np
import pytest

from training.calibration import BINS, Reliability


def _measure(distort: float) -> Reliability:
    random = np.random.default_rng(0)
    probabilities = random.random(200_000)
    reliability = Reliability()
    for part in np.split(probabilities, 10):
        reliability.add(part, random.random(len(part)) < part**distort)
    return reliability


def test_a_source_that_keeps_its_promises_has_no_error():
    assert _measure(1.0).error < 0.005


def test_an_overconfident_source_has_one_of_the_right_size():
    # The mean distance of p to p squared over [0, 1] is 1/2 - 1/3.
    assert _measure(2.0).error == pytest.approx(1 / 6, abs=0.005)


def test_bins_hold_everything_and_certainty_too():
    reliability = Reliability()
    reliability.add(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert reliability.counts.sum() == 3
    assert reliability.counts[0] == 1
    assert reliability.counts[BINS - 1] == 2
    assert reliability.error == pytest.approx(1 / 3)


def test_plain_values_round_trip():
    reliability = _measure(2.0)
    again = Reliability.from_values(reliability.to_values())
    assert again.error == pytest.approx(reliability.error, abs=1e-6)


def test_nothing_measured_is_no_number():
    assert np.isnan(Reliability().error)


def test_few_predictions_look_badly_calibrated_by_chance():
    random = np.random.default_rng(0)
    chances, errors = [], []
    for _ in range(100):
        probabilities = random.random(500)
        reliability = Reliability()
        reliability.add(probabilities, random.random(500) < probabilities)
        errors.append(reliability.error)
        chances.append(reliability.chance)
    assert np.mean(errors) == pytest.approx(np.mean(chances), rel=0.05)
    assert np.isnan(Reliability().chance)
