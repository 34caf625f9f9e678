import numpy as np
import pytest

from training.calibration import Reliability
from training.plots import draw_losses, draw_reliability

PNG = b"\x89PNG"


def _log(steps: int, validated: list[int]):
    for step in range(1, steps + 1):
        yield {"step": step, "loss": 5 / step, "learning_rate": 1e-3, "tokens_per_second": 1.0}
        if step in validated:
            yield {"step": step, "validation": 2.0, "best": 1.0, "validation/a/b": 2.0}


@pytest.mark.parametrize(("steps", "validated"), [(1, [1]), (2, [2]), (500, [100, 200, 500])])
def test_losses_of_any_length_are_drawn(tmp_path, steps, validated):
    draw_losses(list(_log(steps, validated)), tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_drawn_before_anything_was_validated(tmp_path):
    draw_losses(list(_log(5, [])), tmp_path / "loss.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("files", [1, 2, 5])
def test_a_panel_a_file(tmp_path, files):
    reliability = Reliability()
    reliability.add(np.array([0.2, 0.9]), np.array([True, False]))
    kinds = {"token": reliability, "next_word": reliability}
    draw_reliability({f"file {i}": kinds for i in range(files)}, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(PNG)
