"""``nextword calibrate`` and ``compare`` as a user meets them."""

import shutil
import sys
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from app.cli import app
from models.checkpoint import load_checkpoint
from training.card import format_metric
from training.compare import COLUMNS
from training.evaluate import evaluate


def _invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})


@pytest.fixture
def folder(tmp_path, checkpoint):
    return shutil.copytree(checkpoint[0], tmp_path / "small")


def test_a_temperature_is_fitted_and_stored_and_nothing_else(folder, corpus):
    before = load_checkpoint(folder)
    result = _invoke("calibrate", folder, "--data", corpus[1])
    assert result.exit_code == 0, result.output
    after = load_checkpoint(folder)
    assert after.temperature != before.temperature
    assert after.checksum == before.checksum
    assert after.details["calibration"]["temperature"] == after.temperature
    assert after.details["calibration"]["data"] == ["notes/valid"]
    assert f"temperature {after.temperature:.4f}" in result.output
    found = evaluate(after, corpus[1], sample=30)
    assert found.temperature == after.temperature
    assert "next_word_calibration_error_at_1" in found.metrics


@pytest.mark.parametrize("lines", [True, False])
def test_the_table_holds_the_figures_of_evaluate(tmp_path, folder, corpus, lines):
    markdown, picture = tmp_path / "compare.md", tmp_path / "compare.png"
    result = _invoke(
        *("compare", folder, "--data", corpus[1], "--sample", 30),
        *("--markdown", markdown, "--picture", picture, *(["--lines"] if lines else [])),
    )
    assert result.exit_code == 0, result.output
    (row,) = [line for line in markdown.read_text().splitlines() if line.startswith("| small")]
    found = evaluate(load_checkpoint(folder), corpus[1], sample=30, lines_alone=lines)
    for name in COLUMNS:
        if name in found.metrics:
            value = format_metric(name, found.metrics[name].to_values())
            assert f" {value} |" in row
            assert value in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_kenlm_the_comparison_goes_on(tmp_path, folder, corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    (tmp_path / "5-gram.arpa").write_text("\\data\\\n")
    arguments = ("--data", corpus[1], "--sample", 0, "--ngram", tmp_path / "5-gram.arpa")
    result = _invoke("compare", folder, *arguments)
    assert result.exit_code == 0, result.output
    assert "going on without the n-gram model" in result.output
    assert "pip install kenlm" in result.output


def test_the_loss_by_place_is_the_loss(folder, tmp_path, grammar):
    from tests.training.grammar import text
    from training.positions import position_losses

    path = tmp_path / "blocks.txt"
    blocks = [text(grammar.lines(60, seed=seed)) for seed in range(4)]
    path.write_text("\n".join(blocks))
    model = load_checkpoint(folder)
    found = position_losses(model, [path])
    assert found[0].first == 0
    assert all(a.last + 1 == b.first for a, b in pairwise(found))
    result = _invoke("compare", folder, "--data", path, "--positions", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert f"{found[0].nats:.3f}" in result.output
    assert (tmp_path / "p.png").exists()
