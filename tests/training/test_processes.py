"""Two processes against one that reads the streams of both."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import recipe_toml, tiny_recipe
from training.journal import read_log
from training.processes import Processes

OPTIONS = ["--device", "cpu", "--threads", "1", "--sample", "0", "--no-calibrate"]


def train_by_processes(folder, corpus, recipe, name: str, count: int, *more: str) -> None:
    """Train by ``count`` processes, with the environment that torchrun gives them."""
    recipe_file = folder / "tiny.toml"
    recipe_file.write_text(recipe_toml(recipe))
    files = ["--data", corpus[0], "--valid", corpus[1], "--recipe", recipe_file]
    files += ["--out", folder / name, "--run", folder / f"{name}-run"]
    command = [sys.executable, "-m", "app.cli_training", "train", *map(str, files)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        environ = os.environ | {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        environ |= {key: str(value) for key, value in group.items()}
        started.append(
            subprocess.Popen(
                [*command, *OPTIONS, *more], env=environ, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_two_processes_have_the_loss_curve_of_one_that_reads_all_streams(tmp_path, corpus, kind):
    recipe = tiny_recipe(kind, dropout=0.0, epochs=0.6, state_reset=0.1, save_every=10)
    for name, count in (("alone", 1), ("both", 2)):
        train_by_processes(tmp_path, corpus, recipe, name, count)
    alone, both = (read_log(tmp_path / f"{name}-run" / "log.jsonl") for name in ("alone", "both"))
    curves = [
        [entry["validation"] for entry in log if "validation" in entry] for log in (alone, both)
    ]
    assert len(curves[0]) > 2
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert alone[0]["loss"] == pytest.approx(both[0]["loss"], rel=1e-5)
    weights = [
        load_file(tmp_path / f"{name}-run" / "best.safetensors") for name in ("alone", "both")
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-2, atol=2e-3)
    states = [
        load_file(tmp_path / f"{name}-run" / "state.safetensors") for name in ("alone", "both")
    ]
    for name in states[0]:
        if name.startswith("state."):
            torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-2, atol=5e-3)
    config = json.loads((tmp_path / "both" / "config.json").read_text())
    assert config["details"]["training"]["processes"] == 2


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(tmp_path, corpus):
    recipe = tiny_recipe(dropout=0.0, epochs=0.6, save_every=10)
    train_by_processes(tmp_path, corpus, recipe, "run", 1, "--set", "training.epochs=0.3")
    before = read_log(tmp_path / "run-run" / "log.jsonl")
    train_by_processes(tmp_path, corpus, recipe, "run", 2, "--resume")
    after = read_log(tmp_path / "run-run" / "log.jsonl")
    assert after[: len(before)] == before
    losses = [entry["validation"] for entry in after if "validation" in entry]
    assert losses[-1] < losses[0]
    assert after[-1]["step"] > before[-1]["step"]


@pytest.mark.slow
def test_two_processes_begin_with_the_same_base(tmp_path, corpus):
    recipe = tiny_recipe(dropout=0.0, epochs=0.3)
    train_by_processes(tmp_path, corpus, recipe, "base", 1)
    curves = []
    for name, count in (("alone", 1), ("both", 2)):
        train_by_processes(tmp_path, corpus, recipe, name, count, "--from", str(tmp_path / "base"))
        log = read_log(tmp_path / f"{name}-run" / "log.jsonl")
        curves.append({e["step"]: e["validation"] for e in log if "validation" in e})
    assert 0 in curves[0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_streams_are_shared_out_without_rest():
    for total in (1, 7, 16):
        for count in (1, 2, 3, 5):
            shares = [Processes(rank, count).share(total) for rank in range(count)]
            assert [i for s in shares for i in range(total)[s]] == list(range(total))
            sizes = [len(range(total)[s]) for s in shares]
            assert max(sizes) - min(sizes) <= 1
