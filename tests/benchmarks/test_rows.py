import json
import statistics
from itertools import count

import pytest

from benchmarks import rows as rows_module
from benchmarks.memory import Memory
from benchmarks.report import write_report
from benchmarks.rows import Figure, Row, Side, fastest, percentile


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(rows_module, "PAUSE", 0)


def side(name: str, *values: float) -> Side:
    """A side that measures these values, one after another."""
    left = iter(values)
    return Side(name, lambda: Figure(next(left), {"p99": 2.5}))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("size", [1, 2, 99, 100, 101])
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(share: float, size: int):
    values = [float(7 * i % size) for i in range(size)]
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * size
    assert sum(value < found for value in values) < share * size


def test_sides_take_turns_and_the_warm_up_does_not_count():
    clock = count()
    sides = [Side(name, lambda: Figure(next(clock))) for name in "ab"]
    Row("", "", "s", False, sides).run(3, warm_up=True)
    assert [side.values for side in sides] == [[3, 4, 7], [2, 5, 6]]


@pytest.mark.parametrize(("more_is_better", "ratio"), [(True, 0.5), (False, 2.0)])
def test_a_ratio_above_one_means_that_the_first_is_faster(more_is_better: bool, ratio: float):
    row = Row("", "", "", more_is_better, [side("ours", 2, 20, 6), side("theirs", 4, 40, 9)])
    row.run(3)
    assert statistics.median(row.ratios(row.sides[1])) == ratio


@pytest.mark.parametrize(("more_is_better", "best"), [(True, "b"), (False, "a")])
def test_the_fastest_setting_is_chosen_without_its_first_turn(more_is_better: bool, best: str):
    settings = [side("a", 50, 1, 1), side("b", 0, 2, 2)]
    chosen = fastest(settings, more_is_better=more_is_better)
    assert chosen.name == best
    assert not chosen.values


def test_what_is_missing_is_reported(tmp_path):
    row = Row("r", "a row", "ms", False, [side("ours", 1, 2), Side("peer", None, missing="absent")])
    curve = Row("c", "a curve", "ms", False, [side("x", 1, 2), side("y", 2, 3)], "a note")
    curve.curve = [("torch", 64), ("torch", 128)]
    for each in (row, curve):
        each.run(2)
    text = write_report([row, curve], tmp_path, "report", {"processor": "any"})
    assert text == (tmp_path / "report.md").read_text()
    assert "| peer | ms | missing |  |  | absent |" in text
    assert "- `c`: a note" in text
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["rows"][0]["sides"][1]["missing"] == "absent"
    assert stored["rows"][1]["sides"][1]["speed_of_first"] == [2, 1.5]
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_growth_is_that_of_the_second_half():
    memory = Memory([float(i) for i in range(20)], [10.0 * min(i, 10) for i in range(20)])
    assert memory.growth() == pytest.approx((0, 0))
    memory = Memory([float(i) for i in range(20)], [100.0 + i for i in range(20)])
    assert memory.growth()[0] == pytest.approx(9)
