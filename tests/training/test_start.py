"""A run that begins with a checkpoint's weights."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli_training import app
from models.checkpoint import load_checkpoint
from models.errors import CheckpointError
from tests.training.conftest import recipe_toml
from tests.training.grammar import Grammar, write
from training.journal import read_log
from training.recipe import Recipe
from training.train import Corpus, train


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Corpus:
    """A little text of another grammar."""
    folder, grammar = tmp_path_factory.mktemp("other") / "letters", Grammar.random(8)
    learnt = write(folder / "train.txt", grammar.lines(600, seed=1))
    return Corpus([learnt], [write(folder / "valid.txt", grammar.lines(300, seed=2))])


def _recipe(checkpoint: Path, **training) -> Recipe:
    """Return the recipe that a checkpoint was trained by, with other settings."""
    values = load_checkpoint(checkpoint).details["recipe"]
    return Recipe.from_values({**values, "training": values["training"] | training})


def _train(recipe: Recipe, corpus: Corpus, folder: Path, **more) -> list[dict]:
    """Train, and return the log's validations."""
    run = folder / "run"
    train(recipe, corpus, out=folder / "out", run=run, console=Console(quiet=True), **more)
    return [entry for entry in read_log(run / "log.jsonl") if "validation" in entry]


def test_a_run_begins_where_the_checkpoint_stands(tmp_path, checkpoint, corpus):
    start, files = checkpoint[0], Corpus([corpus[0]], [corpus[1]])
    begun = load_checkpoint(start)
    first, *_ = _train(_recipe(start, epochs=0.1), files, tmp_path, start=start)
    notes = begun.details["training"]
    assert first["step"] == 0
    assert first["best"]
    assert first["validation"] == pytest.approx(notes["validation_nats_per_token"], abs=2e-3)
    adapted = load_checkpoint(tmp_path / "out")
    assert adapted.tokenizer.to_json() == begun.tokenizer.to_json()
    assert adapted.details["training"]["began_with"] == {
        "name": start.name,
        "weights": begun.checksum,
        "core_hours": notes["core_hours"],
    }
    # And again, from what has a beginning itself: its hours add up.
    again = tmp_path / "again"
    _train(_recipe(start, epochs=0.1), files, again, start=tmp_path / "out")
    origin = load_checkpoint(again / "out").details["training"]["began_with"]
    spent = adapted.details["training"]["core_hours"] + notes["core_hours"]
    assert origin["core_hours"] == pytest.approx(spent, abs=1e-4)


def test_where_nothing_gets_better_the_weights_stay(tmp_path, checkpoint, corpus):
    start = checkpoint[0]
    recipe = Recipe.from_values(
        _recipe(start, epochs=0.1, storage="float32").to_values()
        | {"optimizer": {"learning_rate": 1.0, "warmup_steps": 0, "average_decay": 0.0}}
    )
    first, *later = _train(recipe, Corpus([corpus[0]], [corpus[1]]), tmp_path, start=start)
    assert later
    assert all(entry["validation"] > first["validation"] for entry in later)
    weights = [load_checkpoint(f).network.state_dict() for f in (start, tmp_path / "out")]
    for name, tensor in weights[0].items():
        assert tensor.equal(weights[1][name]), name


def test_little_text_is_learnt_better_than_from_nothing(tmp_path, checkpoint, other):
    recipe = _recipe(checkpoint[0], epochs=3)
    nats = {}
    for name, start in (("adapted", checkpoint[0]), ("alone", None)):
        losses = [
            entry["validation"] for entry in _train(recipe, other, tmp_path / name, start=start)
        ]
        # All of the text's, since each has its own tokens.
        ((_, _), (_, tokens)) = json.loads((tmp_path / name / "run" / "corpus.json").read_text())
        nats[name] = [tokens * loss for loss in losses]
    assert nats["adapted"][-1] < 0.9 * nats["adapted"][0]
    assert nats["adapted"][-1] < 0.9 * nats["alone"][-1]


def test_a_run_is_held_to_its_beginning(tmp_path, checkpoint, corpus):
    start, files = checkpoint[0], Corpus([corpus[0]], [corpus[1]])
    _train(_recipe(start, epochs=0.1), files, tmp_path, start=start)
    longer = _recipe(start, epochs=0.2)
    with pytest.raises(ValueError, match=r"began with small \(.*…\), not with fresh weights"):
        _train(longer, files, tmp_path, resume=True)
    validations = _train(longer, files, tmp_path, start=start, resume=True)
    assert [entry["step"] for entry in validations].count(0) == 1
    begun = load_checkpoint(tmp_path / "out").details["training"]["began_with"]
    assert begun["weights"] == load_checkpoint(start).checksum
    _train(longer, files, tmp_path / "fresh")
    with pytest.raises(ValueError, match=r"began with fresh weights, not with small"):
        _train(longer, files, tmp_path / "fresh", start=start, resume=True)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("network", {"hidden_size": 16}, r"has network\.hidden_size = 32, the recipe 16"),
        ("network", {"num_layers": 1}, r"has network\.num_layers = 2, the recipe 1"),
        ("tokenizer", {"kind": "word"}, r"has tokenizer\.kind = 'subword', the recipe 'word'"),
    ],
)
def test_another_network_is_refused(tmp_path, checkpoint, other, table, change, message):
    values = _recipe(checkpoint[0]).to_values()
    recipe = Recipe.from_values(values | {table: values[table] | change})
    with pytest.raises(ValueError, match=message):
        _train(recipe, other, tmp_path, start=checkpoint[0])
    assert not (tmp_path / "run").exists()


def test_dropout_may_differ(tmp_path, checkpoint, other):
    values = _recipe(checkpoint[0], epochs=0.3).to_values()
    values["network"] |= {"dropout": 0.5}
    assert _train(Recipe.from_values(values), other, tmp_path, start=checkpoint[0])[0]["step"] == 0


def test_what_is_no_checkpoint_is_refused(tmp_path, checkpoint, other):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint[0], broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    for folder in (broken, tmp_path / "gone"):
        with pytest.raises(CheckpointError, match=folder.name):
            _train(_recipe(checkpoint[0]), other, tmp_path, start=folder)


def test_from_the_command_line_to_the_card(tmp_path, checkpoint, other):
    recipe = tmp_path / "small.toml"
    recipe.write_text(recipe_toml(_recipe(checkpoint[0], epochs=0.3)))
    paths = {"--recipe": recipe, "--data": other.train[0], "--valid": other.valid[0]}
    paths |= {"--out": tmp_path / "mine", "--run": tmp_path / "run", "--from": checkpoint[0]}
    options = [str(part) for pair in paths.items() for part in pair]
    result = CliRunner().invoke(app, ["train", *options, "--sample", "0"])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "mine" / "README.md").read_text()
    origin = load_checkpoint(checkpoint[0])
    assert f"| begun with | `small`, weights `{origin.checksum[:12]}…`, trained for" in card
    assert f"--from {checkpoint[0].parent.name}/small" in card
