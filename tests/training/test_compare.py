"""``nextword calibrate`` and ``compare`` as a user meets them."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import app
from benchmarks.kneser_ney import write_models
from models.checkpoint import load_checkpoint
from tests.training.grammar import text, write
from training.calibration import Reliability
from training.card import format_metric
from training.compare import COLUMNS, Entry, markdown
from training.evaluate import Evaluation, evaluate
from training.metrics import Metric
from training.positions import position_losses


def _invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})


@pytest.fixture
def folder(tmp_path, checkpoint):
    return shutil.copytree(checkpoint[0], tmp_path / "small")


@pytest.fixture
def valid(tmp_path, grammar):
    return write(tmp_path / "notes" / "valid.txt", grammar.lines(60, seed=2))


def test_a_temperature_is_fitted_and_stored_and_nothing_else(folder, valid):
    before = load_checkpoint(folder)
    result = _invoke("calibrate", folder, "--data", valid)
    assert result.exit_code == 0, result.output
    after = load_checkpoint(folder)
    assert after.temperature != before.temperature
    assert after.checksum == before.checksum
    assert after.details["calibration"]["temperature"] == after.temperature
    assert after.details["calibration"]["data"] == ["notes/valid"]
    assert f"temperature {after.temperature:.4f}" in result.output
    found = evaluate(after, valid, sample=10)
    assert found.temperature == after.temperature
    assert "next_word_calibration_error_at_1" in found.metrics


@pytest.mark.parametrize("lines", [True, False])
def test_the_table_holds_the_figures_of_evaluate(tmp_path, folder, valid, lines):
    markdown, picture = tmp_path / "compare.md", tmp_path / "compare.png"
    result = _invoke(
        *("compare", folder, "--data", valid, "--sample", 10),
        *("--markdown", markdown, "--picture", picture, *(["--lines"] if lines else [])),
    )
    assert result.exit_code == 0, result.output
    (row,) = [line for line in markdown.read_text().splitlines() if line.startswith("| small")]
    found = evaluate(load_checkpoint(folder), valid, sample=10, lines_alone=lines)
    for name in COLUMNS:
        if name in found.metrics:
            value = format_metric(name, found.metrics[name].to_values())
            assert f" {value} |" in row
            assert value in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_ngram_model_stands_beside_the_checkpoints(tmp_path, folder, valid, grammar):
    lines = [*text(grammar.lines(300, seed=1)).splitlines(), "seldom rare"]
    write_models(lines, tmp_path / "3-gram.arpa", order=3, vocabulary=100)
    markdown = tmp_path / "compare.md"
    result = _invoke(
        *("compare", folder, "--data", valid, "--lines", "--sample", 200),
        *("--ngram", tmp_path / "3-gram.arpa", "--markdown", markdown),
    )
    assert result.exit_code == 0, result.output
    head, row = (
        [part.strip() for part in line.split("|")]
        for line in markdown.read_text().splitlines()
        if line.startswith(("|  |", "| 3-gram"))
    )
    perplexity = float(row[head.index("perplexity per word")])
    drawn = grammar.lines(60, seed=2)
    best = np.exp(sum(map(grammar.nats, drawn)) / sum(map(len, drawn)))
    assert 0.97 * best < perplexity < 1.2 * best
    assert "0.00% of the units are unknown" in markdown.read_text()


def test_what_differs_between_files_is_told_of_each():
    evaluations = [
        Evaluation(
            data=data,
            text={"read": "as it stands"},
            sample=None,
            metrics={"word_choice_accuracy": Metric(0.9, f"alone, {share}; sampled", 9)},
            temperature=1.0,
            next_word=None,
            uncalibrated=None,
            token=Reliability(),
            seconds=1.0,
        )
        for data, share in (("a/valid", "52.8%"), ("b/valid", "48.7%"))
    ]
    table = markdown([Entry(name, "lstm", 1.0, None, evaluations) for name in ("one", "two")])
    told = "alone, 52.8% (`a/valid`), 48.7% (`b/valid`); sampled"
    assert f"- **word choice**: {told}." in table.splitlines()


def test_a_file_that_is_no_ngram_model_is_refused_at_once(tmp_path, folder, valid):
    (tmp_path / "5-gram.arpa").write_text("\\data\\\nngram 1=2\n")
    result = _invoke("compare", folder, "--data", valid, "--ngram", tmp_path / "5-gram.arpa")
    assert result.exit_code == 2
    assert "5-gram.arpa: not an ARPA file" in result.output


def test_the_loss_by_place_is_the_loss(folder, tmp_path, grammar):
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
