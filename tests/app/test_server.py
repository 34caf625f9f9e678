"""The real thing: ``nextword serve`` as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import SUBWORD, WORD

COMMAND = Path(sys.executable).parent / "nextword"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def served(models_dir: Path, tmp_path: Path, **settings: str) -> Iterator[tuple]:
    """A running service, its client, and the file of its log."""
    port = free_port()
    log = tmp_path / "log"
    environment = os.environ | {f"NEXTWORD_{name}": value for name, value in settings.items()}
    arguments = [COMMAND, "serve", "--port", str(port), "--models-dir", str(models_dir)]
    with log.open("w") as stderr:
        process = subprocess.Popen(arguments, env=environment, stderr=stderr)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield process, client, log
    finally:
        process.kill()
        process.wait(20)


def wait_for(client: httpx.Client, process: subprocess.Popen, path: str) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"no 200 from {path}; exit status {process.poll()}")


def test_it_serves_logs_and_ends_with_status_0(models_dir: Path, tmp_path: Path):
    with served(models_dir, tmp_path) as (process, client, log):
        wait_for(client, process, "/ready")
        answer = client.post(
            "/next-word", json={"text": "SECRET we"}, headers={"x-request-id": "mine"}
        )
        assert answer.json()["predictions"]
        assert answer.headers["x-request-id"] == "mine"
        assert "server" not in answer.headers
        assert client.get("/models").json()["models"][1]["name"] == WORD
        assert client.get("/nothing").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert "SECRET" not in log.read_text()
    requests = [line for line in lines if line.get("request_id") == "mine"]
    (request,) = requests
    assert (request["method"], request["route"], request["status"]) == ("POST", "/next-word", 200)
    left_out = [line for line in lines if line["event"] == "model left out"]
    assert [line["model"] for line in left_out] == ["broken"]
    assert "config.json: not JSON" in left_out[0]["reason"]
    assert {line["model"] for line in lines if line["event"] == "model loaded"} == {SUBWORD, WORD}


def test_it_drains_unready_but_answering_and_then_ends(models_dir: Path, tmp_path: Path):
    with served(models_dir, tmp_path, DRAIN_SECONDS="1") as (process, client, _):
        wait_for(client, process, "/ready")
        started = threading.Event()
        received: list[str] = []

        def read_stream() -> None:
            body = {"text": "we", "strategy": "sample", "seed": 1, "n": 8, "stream": True}
            body |= {"max_tokens": 200}
            with client.stream("POST", "/generate", json=body) as response:
                for line in response.iter_lines():
                    received.append(line)
                    started.set()

        reader = threading.Thread(target=read_stream)
        reader.start()
        assert started.wait(20)
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        statuses = {client.get("/ready").status_code, 200}
        while statuses != {200, 503} and time.monotonic() < stopped + 20:
            statuses.add(client.get("/ready").status_code)
        with httpx.Client(base_url=client.base_url) as newcomer:
            assert newcomer.get("/health").status_code == 200
        reader.join(20)
        assert "event: done" in received
        assert process.wait(20) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_it_cuts_short_what_takes_too_long_and_says_so(models_dir: Path, tmp_path: Path, stream):
    settings = {"MAX_TOKENS": "1000000", "MAX_CONTINUATIONS": "2000", "SHUTDOWN_SECONDS": "1"}
    with served(models_dir, tmp_path, **settings) as (process, client, _):
        wait_for(client, process, "/ready")
        # Each may end by chance at every token; of so many, some go on for long enough.
        body = {"text": "we", "strategy": "sample", "n": 2000, "max_tokens": 1_000_000}
        body |= {"stream": stream, "temperature": 100}
        received: list[str] = []
        started = threading.Event()

        def ask() -> None:
            with client.stream("POST", "/generate", json=body) as response:
                received.append(str(response.status_code))
                for line in response.iter_lines():
                    started.set()
                    received.append(line)

        asking = threading.Thread(target=ask)
        asking.start()
        if stream:
            assert started.wait(20)
        else:
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - stopped < 8
        asking.join(20)
    assert received[0] == ("200" if stream else "503")
    if stream:
        last = max(i for i, line in enumerate(received) if line.startswith("event: "))
        assert received[last] == "event: error"
    problem = json.loads(received[last + 1].removeprefix("data: ") if stream else received[1])
    assert problem["status"] == 503
    assert "shutting down" in problem["detail"]


def test_it_ends_while_loading(models_dir: Path, tmp_path: Path):
    with served(models_dir, tmp_path) as (process, client, _):
        wait_for(client, process, "/health")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
