"""The commands as a user meets them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from app.cli_training import app
from models.checkpoint import load_checkpoint
from models.forward import run
from models.next_word import next_word
from training import extras

RECIPE = """
[tokenizer]
kind = "word"
vocab_size = 30
[network]
kind = "gru"
embedding_size = 8
hidden_size = 8
num_layers = 1
[training]
epochs = 1
batch_size = 8
segment_length = 16
validate_every = 40
"""


def _invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "120"})


@pytest.fixture
def options(tmp_path, corpus):
    """Options of a short training run."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    return [
        *("--recipe", recipe, "--data", corpus[0], "--valid", corpus[1], "--sample", 20),
        *("--out", tmp_path / "mine", "--run", tmp_path / "run", "--device", "cpu"),
    ]


def test_from_text_to_figures_in_processes_of_their_own(tmp_path, corpus, options):
    def nextword(*arguments):
        command = [sys.executable, "-m", "app.cli_training", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    trained = nextword("train", *options, "--threads", 1)
    assert trained.returncode == 0, trained.stderr
    assert "validation perplexity per token: notes/valid" in trained.stderr
    evaluated = nextword("evaluate", tmp_path / "mine", "--data", corpus[1], "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    answer = json.loads(evaluated.stdout)
    model = load_checkpoint(tmp_path / "mine")
    assert answer["model"] == "mine"
    assert answer["checksum"] == model.checksum
    (evaluation,) = answer["evaluations"]
    stored = model.details["metrics"][0]["metrics"]
    for name in ("perplexity_per_token", "bits_per_character"):
        assert evaluation["metrics"][name] == stored[name]
        assert evaluation["metrics"][name]["definition"]
    assert stored["recall_at_1"]["count"] < evaluation["metrics"]["recall_at_1"]["count"]
    assert sum(evaluation["reliability"]["token"]["counts"]) == evaluation["text"]["tokens"]
    assert len(run(next_word(model, "the cat"), model).predictions) == 10
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "--recipe tiny.toml --data notes/train.txt --valid notes/valid.txt" in card
    assert str(tmp_path) not in card
    assert (tmp_path / "run" / "loss.png").exists()
    assert (tmp_path / "mine" / "loss.png").exists()


def test_training_in_steps_and_a_card_on_demand(tmp_path, corpus, options):
    assert _invoke("train", *options, "--set", "training.epochs=0.5").exit_code == 0
    result = _invoke("train", *options, "--resume")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "mine"
    assert load_checkpoint(folder).details["training"]["epochs"] == pytest.approx(1.0, abs=0.05)

    picture = tmp_path / "pictures" / "calibration.png"
    evaluate = ["evaluate", folder, "--data", corpus[1], "--sample", 10]
    (folder / "README.md").unlink()
    result = _invoke(*evaluate, "--data", corpus[0], "--picture", picture)
    assert result.exit_code == 0, result.output
    for title in ("notes/valid", "notes/train", "recall@3", "keystroke savings, 5 suggestions"):
        assert title in result.output
    assert picture.exists()
    assert not (folder / "README.md").exists()
    result = _invoke(*evaluate, "--card", "--run", tmp_path / "run", "--sample", 0)
    assert result.exit_code == 0, result.output
    assert "recall@1" not in (folder / "README.md").read_text()
    assert "perplexity per word" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--recipe", "everyday"], "no recipe 'everyday': give a .toml file, or one of everyday"),
        (["--recipe", "gone.toml"], "gone.toml: No such file or directory"),
        (["--data", "gone.txt"], "gone.txt: no such file"),
        (["--valid", "."], ". is not a file"),
        (["--set", "training.epochs=-1"], "training.epochs must be above 0, not -1"),
        (["--set", "training.speed=2"], "[training] has no setting 'speed'"),
        (["--set", "training.batch_size=100000"], "needs 1600000"),
        (["--device", "abacus"], "device 'abacus' is not there"),
        (["--resume"], "holds no run to resume"),
    ],
)
def test_training_mistakes_are_told_in_a_line(options, change, message):
    if change[0] in ("--data", "--valid"):
        options += change
    else:
        options = [*options, *change]
    result = _invoke("train", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"caf\xe9\n"])
def test_texts_that_are_none_are_told_in_a_line(tmp_path, options, checkpoint, content):
    path = tmp_path / "odd.txt"
    path.write_bytes(content)
    for arguments in (
        ["train", *options, "--data", path],
        ["evaluate", checkpoint[0], "--data", path],
    ):
        result = _invoke(*arguments)
        assert result.exit_code == 2
        assert "odd.txt" in result.stderr
        assert "holds no text" in result.stderr or "is not UTF-8" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/gone", "--data", "{data}"], "config.json: no such file"),
        (["{checkpoint}", "--data", "{tmp}/gone.txt"], "gone.txt: no such file"),
        (["{checkpoint}", "--data", "{data}", "--picture", "a.jpg"], "must end in .png"),
        (["{checkpoint}", "--data", "{data}", "--run", "{tmp}"], "holds no log"),
        (["{checkpoint}", "--data", "{data}", "--device", "abacus"], "is not there"),
        (["{checkpoint}", "{checkpoint}", "--data", "{data}"], "together with --ensemble"),
        (["{checkpoint}", "--data", "{data}", "--ensemble", "--card"], "measures perplexities"),
        (["{checkpoint}", "--data", "{data}", "--tune", "{data}"], "go with --online"),
        (
            [
                *("{checkpoint}", "--data", "{data}", "--online", "cache", "--tune", "{data}"),
                *("--online-set", "share=0.1"),
            ],
            "--tune searches share",
        ),
        (["{checkpoint}", "--data", "{data}", "--online", "soon"], "must be cache or dynamic"),
        (["{checkpoint}", "--data", "{data}", "--online", "cache", "--lines"], "begin anew"),
        (["{checkpoint}", "--data", "{data}", "--online", "dynamic"], "name the training text"),
        (
            ["{checkpoint}", "--data", "{data}", "--online", "cache", "--online-set", "size=0"],
            "cache size must be above 0, not 0",
        ),
    ],
)
def test_evaluation_mistakes_are_told_in_a_line(tmp_path, corpus, checkpoint, arguments, message):
    names = {"tmp": tmp_path, "data": corpus[1], "checkpoint": checkpoint[0]}
    result = _invoke("evaluate", *(argument.format(**names) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_another_recipe_is_refused_on_resuming(options):
    assert _invoke("train", *options, "--set", "training.epochs=0.3").exit_code == 0
    result = _invoke("train", *options, "--resume", "--set", "network.hidden_size=16")
    assert result.exit_code == 2
    assert "network.hidden_size = 8, not 16" in result.stderr


def test_a_missing_extra_is_told_with_the_way_out(monkeypatch, options):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tensorboard" else 1)
    result = _invoke("train", *options)
    assert result.exit_code == 2
    assert "tensorboard not installed: pip install tensorboard" in result.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, options):
    command = [sys.executable, "-m", "app.cli_training", "train", *map(str, options)]
    command += ["--set", "training.epochs=500", "--threads", "1", "--no-calibrate"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "run" / "log.jsonl"
        until = time.monotonic() + 60
        while not (log.exists() and log.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped at step" in stderr
    hint = stderr.splitlines()[-1]
    assert hint.startswith("nextword train --recipe")
    assert "--sample 20" in hint
    assert hint.endswith("--no-calibrate --resume")
    assert os.path.getsize(tmp_path / "run" / "state.safetensors")
    assert "Traceback" not in stderr


def test_online_and_ensemble_figures_stand_beside_the_static_ones(corpus, checkpoint):
    evaluate = ["evaluate", checkpoint[0], "--data", corpus[1], "--sample", 0, "--json"]

    def metrics(*options):
        result = _invoke(*evaluate, *options)
        assert result.exit_code == 0, result.output
        (evaluation,) = json.loads(result.stdout)["evaluations"]
        return {name: metric["value"] for name, metric in evaluation["metrics"].items()}, result

    static, _ = metrics()
    found, result = metrics("--online", "cache", "--tune", corpus[1])
    assert "best on" in result.stderr
    assert "--online-set theta=" in result.stderr
    assert {name: found[name] for name in static} == static
    # The grid was searched on this very text, and a share of nearly nothing is in it.
    assert found["online_perplexity_cache"] < 1.03 * static["perplexity_per_token"]
    settings = ["--online-set", "segment=200", "--online-set", "rate=0"]
    options = ["--online", "dynamic", *settings, "--statistics", corpus[0]]
    still, _ = metrics(*options)
    assert still["online_perplexity_dynamic"] == pytest.approx(
        static["perplexity_per_token"], rel=1e-4
    )

    result = _invoke("evaluate", checkpoint[0], *evaluate[1:], "--ensemble")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert len(answer["models"]) == 2
    together = answer["evaluations"][0]["metrics"]["perplexity_per_token"]["value"]
    assert together == pytest.approx(static["perplexity_per_token"], rel=1e-6)
    table = _invoke("evaluate", checkpoint[0], *evaluate[1:-1], "--ensemble")
    assert "perplexity per token" in table.output
