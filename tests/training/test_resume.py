"""Interrupted and resumed equals uninterrupted, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from models.networks import build_network, network_config
from tests.training.conftest import recipe_toml, tiny_recipe
from training.dataset import prepare
from training.device import cpu_computes_bfloat16
from training.journal import read_log
from training.processes import Processes
from training.resume import state_tensors
from training.train import Corpus, train
from training.trainer import Trainer


class Notes:
    """A journal that only remembers."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.validations: dict[int, dict[str, float]] = {}

    def step(self, step, loss, rate, tokens, seconds, *, sampled=False) -> None:
        self.losses[step] = loss

    def validation(self, step, losses, *, best) -> None:
        self.validations[step] = dict(losses)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, corpus, tokenizers):
    folder = tmp_path_factory.mktemp("data")
    return [prepare(path, tokenizers["word"], folder) for path in corpus]


def _trainer(recipe, datasets, folder: Path) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(recipe.training.seed)
    bos = datasets[0].bos_id
    network = build_network(
        network_config({**recipe.network, "vocab_size": bos, "num_ids": bos + 1})
    )
    return Trainer(network, recipe, datasets[0], {"notes": datasets[1]}, folder)


def _everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    found = {f"weight {k}": v for k, v in trainer.network.state_dict().items()}
    found |= {f"average {i}": v for i, v in enumerate(trainer.average.weights)}
    found |= {f"moment {name}": v for name, v in trainer.optimizer.state_tensors().items()}
    return found


def _stop_behind(trainer: Trainer, step: int):
    return lambda: trainer.progress.step >= step


@pytest.mark.parametrize(
    ("kind", "precision", "muon"),
    [
        ("lstm", "float32", False),
        ("transformer", "float32", True),
        ("gru", "float32", False),
        pytest.param(
            *("lstm", "bfloat16", True),
            marks=pytest.mark.skipif(
                not cpu_computes_bfloat16(), reason="this processor has no AVX-512"
            ),
        ),
    ],
)
def test_any_stop_leaves_the_same_numbers(tmp_path, datasets, kind, precision, muon):
    recipe = tiny_recipe(kind, precision=precision, epochs=1.2)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, muon=muon))
    whole, notes = _trainer(recipe, datasets, tmp_path / "whole"), Notes()
    whole.run(notes)
    assert whole.steps > whole.steps_per_epoch  # the shuffled order changes on the way

    resumed_notes = Notes()
    for step in (1, 23, whole.steps_per_epoch, whole.steps_per_epoch + 1, whole.steps):
        # Another process would have another state of the random generators.
        torch.manual_seed(step)
        part = _trainer(recipe, datasets, tmp_path / "parts")
        if part.state_path.exists():
            part.resume()
        part.run(resumed_notes, stop=_stop_behind(part, step))
    assert resumed_notes.losses == notes.losses
    assert resumed_notes.validations == notes.validations
    assert (part.progress.best_step, part.progress.best_loss) == (
        whole.progress.best_step,
        whole.progress.best_loss,
    )
    expected, found = _everything(whole), _everything(part)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    best = load_file(tmp_path / "whole" / "best.safetensors")
    for name, tensor in load_file(tmp_path / "parts" / "best.safetensors").items():
        assert torch.equal(tensor, best[name]), name


def test_patience_ends_a_run_and_resuming_it_does_nothing_more(tmp_path, datasets):
    recipe = tiny_recipe(patience=2, validate_every=2, epochs=50)
    trainer = _trainer(recipe, datasets, tmp_path)
    trainer.validate = lambda: setattr(trainer.progress, "stale", trainer.progress.stale + 1) or {}
    trainer.run(Notes())
    assert trainer.progress.step == 4
    again = _trainer(recipe, datasets, tmp_path)
    again.resume()
    notes = Notes()
    again.run(notes)
    assert again.progress.step == 4
    assert not notes.losses


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(tmp_path, datasets):
    trainer = _trainer(tiny_recipe(), datasets, tmp_path)
    trainer.run(Notes(), stop=_stop_behind(trainer, 3))
    saved = trainer.state_path.read_bytes()
    with torch.no_grad():
        trainer.network.output_bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 4"):
        trainer.run(Notes())
    assert trainer.state_path.read_bytes() == saved


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_each_of_two_processes_resumes_its_streams_in_the_same_shape(tmp_path, datasets, kind):
    recipe = tiny_recipe(kind, segment_length=4, state_reset=0.3)
    alone = _trainer(recipe, datasets, tmp_path)
    alone.run(Notes(), stop=_stop_behind(alone, 3))
    found = []
    for rank in (0, 1):
        part = _trainer(recipe, datasets, tmp_path)
        part.processes = Processes(rank, 2)
        part.resume()
        found.append(state_tensors(part._carried))
    for name, whole in state_tensors(alone._carried).items():
        one, other = (parts[name] for parts in found)
        assert one.shape == other.shape
        assert torch.equal(torch.cat((one, other)), whole)


def test_a_corpus_shorter_than_a_step_is_refused(tmp_path, datasets):
    recipe = tiny_recipe(batch_size=64, segment_length=10_000)
    with pytest.raises(ValueError, match="needs 640000"):
        _trainer(recipe, datasets, tmp_path)


def _quiet() -> Console:
    return Console(quiet=True)


def test_a_killed_process_resumes_to_the_same_bits(tmp_path, corpus):
    text, valid = corpus
    recipe_file = tmp_path / "tiny.toml"
    recipe = tiny_recipe(epochs=4, validate_every=150, save_every=7)
    recipe_file.write_text(recipe_toml(recipe))
    options = ["--data", text, "--valid", valid, "--recipe", recipe_file, "--threads", "1"]
    options += ["--out", tmp_path / "killed", "--run", tmp_path / "run", "--sample", "0"]
    command = [sys.executable, "-m", "app.cli_training", "train", *map(str, options)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environ) as process:
        state = tmp_path / "run" / "state.safetensors"
        until = time.monotonic() + 60
        while not state.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        files = Corpus([text], [valid])
        killed = train(
            recipe,
            files,
            out=tmp_path / "killed",
            run=tmp_path / "run",
            resume=True,
            device="cpu",
            console=_quiet(),
        )
        whole = train(
            recipe,
            files,
            out=tmp_path / "whole",
            run=tmp_path / "run2",
            device="cpu",
            console=_quiet(),
        )
    finally:
        torch.set_num_threads(before)
    expected, found = _everything(whole), _everything(killed)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    # The log's means cover five seconds of steps each; its validations are exact.
    logs = [
        [entry for entry in read_log(tmp_path / run / "log.jsonl") if "validation" in entry]
        for run in ("run", "run2")
    ]
    assert logs[0] == logs[1]


@pytest.fixture
def begun(tmp_path, corpus) -> tuple[Corpus, Path]:
    """A run that was stopped on the way."""
    files, run = Corpus([corpus[0]], [corpus[1]]), tmp_path / "run"
    train(tiny_recipe(epochs=0.3), files, out=tmp_path / "out", run=run, console=_quiet())
    return files, run


def test_a_run_folder_is_held_to_recipe_and_text_but_may_get_longer(tmp_path, corpus, begun):
    files, run = begun
    out = tmp_path / "out"

    def resume(recipe, files=files, *, resume=True):
        train(recipe, files, out=out, run=run, resume=resume, console=_quiet())

    with pytest.raises(ValueError, match="holds a run already"):
        resume(tiny_recipe(epochs=0.3), resume=False)
    with pytest.raises(ValueError, match=r"begun with training\.batch_size = 8, not 4"):
        resume(tiny_recipe(epochs=0.3, batch_size=4))
    with pytest.raises(ValueError, match=r"begun with network\.kind = 'lstm', not 'gru'"):
        resume(tiny_recipe("gru", epochs=0.3))
    with pytest.raises(ValueError, match="begun with the tokens"):
        resume(tiny_recipe(epochs=0.3), Corpus([corpus[1]], [corpus[1]]))
    resume(tiny_recipe(epochs=0.5, sampled_share=0.5, validate_every=7))


def test_there_must_be_something_to_resume(tmp_path, corpus):
    files = Corpus([corpus[0]], [corpus[1]])
    with pytest.raises(ValueError, match="holds no run to resume"):
        train(tiny_recipe(), files, out=tmp_path, run=tmp_path / "run", resume=True)


def test_a_run_killed_before_its_first_save_begins_again(tmp_path, begun):
    files, run = begun
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    (run / "state.safetensors").unlink()
    train(
        tiny_recipe(epochs=0.3), files, out=tmp_path / "out", run=run, resume=True, console=_quiet()
    )
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


def test_a_vocabulary_left_by_an_unsaved_run_is_not_taken_over(tmp_path, begun):
    files, run = begun
    (run / "state.safetensors").unlink()
    values = tiny_recipe(epochs=0.3).to_values()
    values["tokenizer"]["vocab_size"] = 8
    recipe = type(tiny_recipe()).from_values(values)
    trainer = train(recipe, files, out=tmp_path / "out", run=run, console=_quiet())
    assert trainer.network.vocab_size == 8
