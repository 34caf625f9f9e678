"""A run that begins with a checkpoint's weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from app.cli_training import app
from models.checkpoint import load_checkpoint
from models.errors import CheckpointError
from models.tokenizers import train_tokenizer
from tests.training.conftest import random_model, recipe_toml, tiny_recipe
from tests.training.grammar import Grammar, write
from training.journal import read_log
from training.recipe import Recipe
from training.start import note_of
from training.train import Corpus, train
from training.trainer import Trainer


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
    base = load_checkpoint(start)
    first, *_ = _train(_recipe(start, epochs=0.1), files, tmp_path, start=start)
    notes = base.details["training"]
    assert first["step"] == 0
    assert first["best"]
    assert first["validation"] == pytest.approx(notes["validation_nats_per_token"], abs=2e-3)
    adapted = load_checkpoint(tmp_path / "out")
    assert adapted.tokenizer.to_json() == base.tokenizer.to_json()
    assert adapted.details["training"]["began_with"] == note_of(base)


@pytest.mark.parametrize(
    ("tokenizer", "kind", "tied", "storage"),
    [("word", "lstm", False, "float32"), ("wikitext", "transformer", True, "float16")],
)
def test_every_kind_can_begin_anew(tmp_path, corpus, tokenizer, kind, tied, storage):
    files = Corpus([corpus[0]], [corpus[1]])
    values = tiny_recipe(kind, epochs=0.3, storage=storage).to_values()
    values["tokenizer"]["kind"] = tokenizer
    values["network"]["tied"] = tied
    recipe = Recipe.from_values(values)
    best = min(entry["validation"] for entry in _train(recipe, files, tmp_path / "base"))
    first, *_ = _train(recipe, files, tmp_path / "more", start=tmp_path / "base" / "out")
    assert first["validation"] == pytest.approx(best, abs=1e-3)


def test_a_note_counts_all_that_was_before():
    def base(**details):
        model = random_model("gru", train_tokenizer("word", ["a b"], vocab_size=5))
        return replace(model, name="base", checksum="ab" * 32, details=details)

    training = {"core_hours": 2.0}
    files = {"train": ["a/train", "b/train"], "valid": ["a/valid"]}
    first = note_of(base(training=training, corpus=files))
    assert first == {"name": "base", "weights": "ab" * 32, "core_hours": 2.0, **files}
    later = {"core_hours": 0.5, "began_with": first}
    more = {"train": ["c/train", "a/train"], "valid": ["c/valid"]}
    second = note_of(base(training=later, corpus=more))
    assert second["core_hours"] == 2.5
    assert second["train"] == ["a/train", "b/train", "c/train"]
    assert second["valid"] == ["a/valid", "c/valid"]
    # What is not known is not nothing.
    assert note_of(base())["core_hours"] is None
    unknown = {"core_hours": 0.5, "began_with": note_of(base())}
    assert note_of(base(training=unknown))["core_hours"] is None


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


def test_a_share_of_the_base_stays(tmp_path, checkpoint, corpus, other):
    start = checkpoint[0]
    alone = _recipe(start, epochs=1, storage="float32")
    _train(alone, other, tmp_path, start=start)
    weights = [load_checkpoint(f).network.state_dict() for f in (start, tmp_path / "out")]
    losses = [load_checkpoint(tmp_path / "out").details["training"]["validation_nats_per_token"]]
    mixed = _recipe(start, epochs=1, storage="float32", base_share=0.25)
    _train(mixed, other, tmp_path, start=start, resume=True)
    between = load_checkpoint(tmp_path / "out")
    for name, tensor in between.network.state_dict().items():
        expected = 0.25 * weights[0][name] + 0.75 * weights[1][name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
    losses.append(between.details["training"]["validation_nats_per_token"])
    assert losses[0] < losses[1]
    with pytest.raises(ValueError, match="base_share needs a checkpoint"):
        _train(mixed, other, tmp_path / "anew")


def test_weights_are_judged_with_the_share_that_stays(tmp_path, checkpoint, other):
    recipe = _recipe(checkpoint[0], epochs=0.5, storage="float32", base_share=0.5)
    validations = _train(recipe, other, tmp_path, start=checkpoint[0])
    stored = load_checkpoint(tmp_path / "out")
    told = {entry["step"]: entry["validation"] for entry in validations}
    best = min(told, key=told.__getitem__)
    assert best > 0
    assert best == stored.details["training"]["best_step"]
    nats = stored.details["training"]["validation_nats_per_token"]
    assert told[best] == pytest.approx(nats, abs=1e-6)


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


def test_a_run_is_held_to_its_base(tmp_path, checkpoint, corpus):
    start, files = checkpoint[0], Corpus([corpus[0]], [corpus[1]])
    _train(_recipe(start, epochs=0.1), files, tmp_path, start=start)
    longer = _recipe(start, epochs=0.2)
    with pytest.raises(ValueError, match=r"began with small \(.*…\), not with drawn weights"):
        _train(longer, files, tmp_path, resume=True)
    copy = tmp_path / "copy"  # the weights count, not their name
    shutil.copytree(start, copy)
    validations = _train(longer, files, tmp_path, start=copy, resume=True)
    assert [entry["step"] for entry in validations].count(0) == 1
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "run" / "start.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"start\.json is not what a run has left"):
            _train(longer, files, tmp_path, start=start, resume=True)
    _train(longer, files, tmp_path / "fresh")
    with pytest.raises(ValueError, match=r"began with drawn weights, not with small"):
        _train(longer, files, tmp_path / "fresh", start=start, resume=True)


def test_a_stop_on_the_way_changes_nothing(tmp_path, checkpoint, other, monkeypatch):
    recipe = _recipe(checkpoint[0], epochs=1, save_every=7)
    whole = _train(recipe, other, tmp_path / "whole", start=checkpoint[0])
    train_step = Trainer.train_step

    def fail_at_ten(trainer):
        if trainer.progress.step == 10:
            raise FloatingPointError
        return train_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", fail_at_ten)
        with pytest.raises(FloatingPointError):
            _train(recipe, other, tmp_path / "stopped", start=checkpoint[0])
    resumed = _train(recipe, other, tmp_path / "stopped", start=checkpoint[0], resume=True)
    assert resumed == whole
    assert resumed[0]["step"] == 0


def test_what_a_run_without_a_state_has_logged_is_forgotten(tmp_path, checkpoint, corpus, other):
    recipe = _recipe(checkpoint[0], epochs=0.3)
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 0, "validation": 1.0, "best": 1.0, "validation/gone/valid": 1.0}\n')
    first, *later = _train(recipe, other, tmp_path, start=checkpoint[0])
    assert first["validation/letters/valid"] == first["validation"] > 1.0
    assert 0 not in [entry["step"] for entry in later]


def test_a_checkpoint_is_not_overwritten_by_what_begins_with_it(tmp_path, checkpoint, other):
    out = tmp_path / "out"
    shutil.copytree(checkpoint[0], out)
    with pytest.raises(ValueError, match="write the new one elsewhere"):
        _train(_recipe(out), other, tmp_path, start=out / ".." / "out")
    assert load_checkpoint(out).checksum == load_checkpoint(checkpoint[0]).checksum


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("network", {"hidden_size": 16}, r"has network\.hidden_size = 32, the recipe 16"),
        ("network", {"num_layers": 1}, r"has network\.num_layers = 2, the recipe 1"),
        ("tokenizer", {"kind": "word"}, r"has tokenizer\.kind = 'subword', the recipe 'word'"),
        ("tokenizer", {"vocab_size": 300}, r"has tokenizer\.vocab_size = 270, the recipe 300"),
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
    base = load_checkpoint(checkpoint[0])
    assert f"| begun with | `small`, weights `{base.checksum[:12]}…`, trained for" in card
    rows = [line.split(" | ")[:2] for line in card.splitlines() if line.startswith("| `")]
    assert rows == [
        ["| `notes/train`", "train, before"],
        ["| `letters/train`", "train"],
        ["| `notes/valid`", "valid, before"],
        ["| `letters/valid`", "valid"],
    ]
    assert f"--from {checkpoint[0].parent.name}/small" in card
