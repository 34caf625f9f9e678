import json
import math

import pytest

from benchmarks import ablation
from training.recipe import load_recipe


@pytest.mark.parametrize("settings", ablation.WITHOUT.values(), ids=list(ablation.WITHOUT))
def test_each_variant_switches_off_what_the_recipe_has_on(settings):
    recipe = load_recipe("wikitext2-lstm", ablation.QUARTER).to_values()
    changed = load_recipe("wikitext2-lstm", (*ablation.QUARTER, *settings)).to_values()
    assert len(settings) == len(set(settings))
    for setting in settings:
        table, _, name = setting.removesuffix("=0").partition(".")
        assert recipe[table].pop(name) > 0
        assert changed[table].pop(name) == 0
    assert recipe == changed


def test_the_table_and_the_picture_tell_what_each_is_worth(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "FOLDER", tmp_path)
    for name, losses, valid in (
        ("seed-1", (5.0, 3.0), 4.1),
        ("seed-2", (3.4,), 3.9),
        ("words-dropped", (2.5,), 4.02),
        ("all-of-these", (2.0,), 4.5),
    ):
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        lines = [{"step": 1, "sampled_loss": 9.0}, *({"step": 2, "loss": x} for x in losses)]
        lines.append({"step": 2, "validation": valid, "best": 1.0})
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "seed-3/run").mkdir(parents=True)
    (tmp_path / "seed-3/run/log.jsonl").write_text('{"step": 1, "loss": 4.0}\n')  # not at its end
    seeds = f"{math.exp(4.1):.1f}, {math.exp(3.9):.1f}"
    assert ablation.table().splitlines()[2:] == [
        f"| (all kept; by seed {seeds}) | 3.700 | 4.000 | 54.6 | |",
        "| all of these | 2.000 | 4.500 | 90.0 | +64.9% |",
        "| words dropped | 2.500 | 4.020 | 55.7 | +2.0% |",
    ]
    ablation.draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
