"""Every command of the README is run here as it stands there, and its answers are compared."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.adaptation import SETTINGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What cannot run inside a test, and what vouches for it instead.
ELSEWHERE = {
    "scripts/test": "is what runs this test",
    "docker compose up --build": "needs a Docker engine; tests/test_container.py reads the files",
}
SHORT = [
    "--set=training.epochs=1",
    "--set=training.batch_size=4",
    "--set=training.segment_length=8",
    "--sample=20",
]
TINY = [
    *SHORT,
    "--set=tokenizer.vocab_size=300",
    "--set=network.embedding_size=16",
    "--set=network.hidden_size=16",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    joined = "".join(blocks("sh")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like the clone, in which commands may write."""
    (tmp_path / "checkpoints").mkdir()
    for checkpoint in (ROOT / "checkpoints").iterdir():
        (tmp_path / "checkpoints" / checkpoint.name).symlink_to(checkpoint)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    lines = [f"{who} {what} number {n}." for n in range(40) for who in "ABC" for what in "xyz"]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "valid.txt").write_text("\n".join(lines[::7]) + "\n")
    (tmp_path / "letters.txt").write_text("I booked a room in Zwolle.\n")
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@contextlib.contextmanager
def serving(command: str, port: int) -> Iterator[str]:
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*shlex.split(command), "--port", str(port)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command} was not ready in time"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/ready", timeout=5).status_code == 200:
                    break
            time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def request(curl: str, address: str) -> dict[str, object]:
    """Send what a curl command of the README sends."""
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    name, _, value = words[words.index("-H") + 1].partition(": ")
    body = words[words.index("-d") + 1]
    url = url.replace("http://127.0.0.1:8000", address)
    answer = httpx.post(url, content=body, headers={name: value}, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def assert_alike(found: object, shown: object) -> None:
    """Compare JSON, numbers within what another processor's rounding makes of them."""
    if isinstance(shown, dict):
        assert isinstance(found, dict)
        assert found.keys() == shown.keys()
        for key in shown:
            assert_alike(found[key], shown[key])
    elif isinstance(shown, list):
        assert isinstance(found, list)
        assert len(found) == len(shown)
        for pair in zip(found, shown, strict=True):
            assert_alike(*pair)
    elif isinstance(shown, float):
        assert found == pytest.approx(shown, abs=2e-3)
    else:
        assert found == shown


def test_every_command_is_known() -> None:
    known = ("scripts/serve", "curl ", ".venv/bin/nextword ")
    for command in commands():
        assert command in ELSEWHERE or command.startswith(known), command


def test_the_service_answers_as_shown() -> None:
    curls = [command for command in commands() if command.startswith("curl ")]
    with serving("scripts/serve", free_port()) as address:
        answers = [request(curl, address) for curl in curls]
    (shown,) = blocks("json")
    assert_alike(answers[0], json.loads(shown))
    assert all(p["word"].startswith("ho") for p in answers[1]["predictions"])  # type: ignore[attr-defined, index, call-overload]
    assert answers[2]["results"][0]["index"] == 1  # type: ignore[index]
    assert answers[3]["results"][0]["text"]  # type: ignore[index]
    assert answers[4]["predictions"][0]["word"] == "Zwolle"  # type: ignore[index]
    completed = answers[5]["choices"][0]  # type: ignore[index]
    assert completed["text"] == answers[3]["results"][0]["text"]  # type: ignore[index]


def test_several_processes_serve() -> None:
    (command,) = (command for command in commands() if command.startswith("scripts/serve "))
    with serving(command, free_port()) as address:
        deadline = time.monotonic() + 120
        while "nextword_workers 2.0" not in httpx.get(f"{address}/metrics", timeout=60).text:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_command_line(folder: Path) -> None:
    lines = [command for command in commands() if command.startswith(".venv/bin/nextword ")]
    assert {shlex.split(line)[1] for line in lines} == {
        "next", "score", "generate", "train", "evaluate", "keys",
    }  # fmt: skip
    for line in lines:
        words = shlex.split(line)
        if words[1] == "train":  # what begins with a checkpoint has its size
            words += SHORT if "--from" in words else TINY
        elif words[1] == "evaluate":
            words.append("--sample=20")
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=240, env={**os.environ}
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout or words[1] == "train" or "--output" in words
    rows = (folder / "rows.jsonl").read_text().splitlines()
    assert len(rows) == len((folder / "texts.txt").read_text().splitlines())
    for name in ("mine", "adapted"):
        assert (folder / "checkpoints" / name / "model.safetensors").exists()


def test_the_adaptation_measured_is_the_one_shown() -> None:
    (line,) = (command for command in commands() if "--from" in command)
    words = shlex.split(line)
    assert tuple(words[i + 1] for i, word in enumerate(words) if word == "--set") == SETTINGS


def test_the_python_code_runs(folder: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[-1] == "True"


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
