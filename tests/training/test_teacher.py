"""A run that learns from a trained model's predictions."""

import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from app.cli_training import app
from models.checkpoint import load_checkpoint
from models.errors import CheckpointError
from tests.training.conftest import random_model, recipe_toml, tiny_recipe
from tests.training.grammar import write
from tests.training.test_processes import train_by_processes
from training.journal import read_log
from training.recipe import Recipe
from training.teacher import Teacher
from training.train import Corpus, train
from training.trainer import Trainer


@pytest.fixture(scope="module")
def little(tmp_path_factory, grammar, corpus) -> Corpus:
    """A little text of the grammar that `checkpoint` knows."""
    folder = tmp_path_factory.mktemp("little") / "letters"
    return Corpus([write(folder / "train.txt", grammar.lines(60, seed=7))], [corpus[1]])


def _student(kind: str = "gru", **training) -> Recipe:
    """Return the recipe of a student of `checkpoint`."""
    values = tiny_recipe(kind, dropout=0.0, **training).to_values()
    values["tokenizer"] = {"kind": "subword", "vocab_size": 270}
    values["network"] |= {"embedding_size": 16}
    values["optimizer"] |= {"learning_rate": 0.02}
    return Recipe.from_values(values)


def _train(recipe: Recipe, corpus: Corpus, folder: Path, **more) -> list[float]:
    """Train, and return the validation losses."""
    train(
        recipe, corpus, out=folder / "out", run=folder / "run", console=Console(quiet=True), **more
    )
    log = read_log(folder / "run" / "log.jsonl")
    return [entry["validation"] for entry in log if "validation" in entry]


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_segments_are_read_as_the_whole(kind, tokenizers):
    model = replace(random_model(kind, tokenizers["subword"]), temperature=1.3)
    teacher = Teacher(model, 0.5, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(model.tokenizer.vocab_size, (3, 15), generator=generator)
    begins = torch.zeros(3, 15, dtype=torch.bool)
    logits, _ = model.network(inputs)
    whole = torch.softmax(logits / 1.3, dim=-1)  # (B, T, V)
    for start in range(0, 15, 5):
        segment = slice(start, start + 5)
        soft = teacher.read(inputs[:, segment], begins[:, segment])
        found = soft.probabilities(slice(None), torch.float32).view(3, 5, -1)
        torch.testing.assert_close(found, whole[:, segment], rtol=1e-4, atol=1e-6)
        rows = soft.probabilities(slice(4, 9), torch.float32)
        torch.testing.assert_close(rows, found.flatten(0, 1)[4:9])


def test_what_the_text_does_not_tell_is_learnt_from_the_teacher(tmp_path, corpus):
    teacher, lines = tmp_path / "teacher", Path(corpus[0]).read_text(encoding="utf-8").splitlines()
    knowing = tiny_recipe(dropout=0.0, epochs=4, validate_every=300)
    _train(knowing, Corpus([corpus[0]], [corpus[1]]), teacher)
    shuffled = tmp_path / "shuffled.txt"
    random = Random(0)
    mixed = (random.sample(words, len(words)) for words in map(str.split, lines))
    shuffled.write_text("\n".join(map(" ".join, mixed)), encoding="utf-8")
    nats = {}
    for share in (0.0, 1.0):
        recipe = tiny_recipe("gru", dropout=0.0, epochs=2, teacher_share=share, validate_every=1000)
        folder, text = tmp_path / str(share), Corpus([shuffled], [corpus[1]])
        nats[share] = min(_train(recipe, text, folder, taught_by=teacher / "out"))
    assert nats[1.0] < nats[0.0] - 0.1


def test_a_student_has_its_teachers_vocabulary(tmp_path, checkpoint, little):
    _train(_student(epochs=1), little, tmp_path, taught_by=checkpoint[0])
    teacher, student = load_checkpoint(checkpoint[0]), load_checkpoint(tmp_path / "out")
    assert student.tokenizer.to_json() == teacher.tokenizer.to_json()
    note = {"name": "small", "weights": teacher.checksum}
    assert student.details["training"]["taught_by"] == note


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_stop_on_the_way_changes_nothing(tmp_path, checkpoint, little, monkeypatch, kind):
    recipe = _student(kind, epochs=8, validate_every=5, save_every=7, state_reset=0.2)
    whole = _train(recipe, little, tmp_path / "whole", taught_by=checkpoint[0])
    train_step = Trainer.train_step

    def fail_at_ten(trainer):
        if trainer.progress.step == 10:
            raise FloatingPointError
        return train_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", fail_at_ten)
        with pytest.raises(FloatingPointError):
            _train(recipe, little, tmp_path / "stopped", taught_by=checkpoint[0])
    resumed = _train(recipe, little, tmp_path / "stopped", taught_by=checkpoint[0], resume=True)
    assert resumed == whole


def test_a_run_is_held_to_its_teacher(tmp_path, checkpoint, little):
    teacher = checkpoint[0]
    _train(_student(epochs=1), little, tmp_path, taught_by=teacher)
    longer = _student(epochs=2)
    with pytest.raises(ValueError, match=r"learnt from small \(.*…\), not from no teacher"):
        _train(longer, little, tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"begun with training\.teacher_share"):
        _train(_student(teacher_share=0.9), little, tmp_path, taught_by=teacher, resume=True)
    copy = tmp_path / "copy"  # the weights count, not their name
    shutil.copytree(teacher, copy)
    _train(longer, little, tmp_path, taught_by=copy, resume=True)


def test_who_cannot_teach_is_refused(tmp_path, checkpoint, corpus, little):
    other = tmp_path / "other"
    values = _student(epochs=0.1).to_values()
    values["tokenizer"]["vocab_size"] = 269
    _train(Recipe.from_values(values), Corpus([corpus[0]], [corpus[1]]), other)
    refused = {
        r"has tokenizer\.vocab_size = 269, the recipe 270": (_student(), other / "out"),
        r"softmax_samples must be 0 with a teacher": (_student(softmax_samples=16), checkpoint[0]),
    }
    for message, (recipe, teacher) in refused.items():
        with pytest.raises(ValueError, match=message):
            _train(recipe, little, tmp_path / "student", taught_by=teacher)
    with pytest.raises(CheckpointError, match="nobody"):
        _train(_student(), little, tmp_path / "student", taught_by=tmp_path / "nobody")
    assert not (tmp_path / "student" / "run").exists()


def test_a_base_and_a_teacher_have_one_vocabulary(tmp_path, checkpoint, little, grammar):
    text = write(tmp_path / "lines" / "train.txt", grammar.lines(500, seed=11))
    recipe = _student(epochs=0.1)
    _train(recipe, Corpus([text], little.valid), tmp_path / "base")
    with pytest.raises(ValueError, match="has another vocabulary than out: it cannot teach it"):
        _train(recipe, little, tmp_path, start=tmp_path / "base" / "out", taught_by=checkpoint[0])


def test_from_the_command_line_to_the_card(tmp_path, checkpoint, little):
    recipe = tmp_path / "small.toml"
    recipe.write_text(recipe_toml(_student(epochs=0.5)))
    paths = {"--recipe": recipe, "--data": little.train[0], "--valid": little.valid[0]}
    paths |= {"--out": tmp_path / "mine", "--run": tmp_path / "run", "--teacher": checkpoint[0]}
    options = [str(part) for pair in paths.items() for part in pair]
    result = CliRunner().invoke(app, ["train", *options, "--sample", "0"])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "mine" / "README.md").read_text()
    teacher = load_checkpoint(checkpoint[0])
    assert f"| taught by | `small`, weights `{teacher.checksum[:12]}…` |" in card
    assert f"--teacher {checkpoint[0].parent.name}/small" in card


@pytest.mark.slow
def test_two_processes_have_one_teacher_s_lessons(tmp_path, corpus):
    recipe = tiny_recipe("transformer", dropout=0.0, epochs=0.3)
    train_by_processes(tmp_path, corpus, recipe, "teacher", 1)
    curves = []
    for name, count in (("alone", 1), ("both", 2)):
        more = ("--teacher", str(tmp_path / "teacher"))
        train_by_processes(tmp_path, corpus, recipe, name, count, *more)
        log = read_log(tmp_path / f"{name}-run" / "log.jsonl")
        curves.append({e["step"]: e["validation"] for e in log if "validation" in e})
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
