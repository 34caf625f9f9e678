"""The service as a process of its own, and load on it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[3]
PATIENCE = 120  # seconds; the machine may be busy


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Running:
    """A service, its clients, its log and its worker processes."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path, key: str) -> None:
        self.process, self.port, self.log = process, port, log
        self._headers = {"x-api-key": key} if key else {}

    def client(self) -> httpx.Client:
        address = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=address, timeout=60, headers=self._headers)

    def get(self, path: str) -> httpx.Response:
        """Ask over a connection of its own, which any worker may take."""
        with self.client() as client:
            return client.get(path)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def workers_gone(self, pids: list[int]) -> bool:
        """Whether these processes have ended, or are dead and only not yet waited for."""
        return all(_is_gone(pid) for pid in pids)

    def connections(self, worker: int) -> int:
        """How many clients are connected to a process."""
        rows = [row.split() for row in Path(f"/proc/{worker}/net/tcp").read_text().splitlines()[1:]]
        established = {
            f"socket:[{row[9]}]"
            for row in rows
            if row[1].endswith(f":{self.port:04X}") and row[3] == "01"
        }
        files = set()
        for file in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed just now
                files.add(str(file.readlink()))
        return len(files & established)

    def wait_ready(self) -> None:
        def ready() -> bool:
            try:
                return self.get("/ready").status_code == 200
            except httpx.TransportError:
                return False

        self.wait(ready)

    def wait(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"status {self.process.poll()}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def metrics(self) -> dict[tuple, float]:
        return samples(self.get("/metrics").text)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def samples(text: str) -> dict[tuple, float]:
    """The measurements by name and label values, each there once."""
    found: dict[tuple, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


@contextmanager
def running(
    models_dir: Path, folder: Path, *options: str, key: str = "", **settings: str
) -> Iterator[Running]:
    port, log = free_port(), folder / "log"
    environment = os.environ | {f"NEXTWORD_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    command += ["--port", str(port), "--models-dir", str(models_dir), *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=environment, stderr=stderr, cwd=ROOT)
    service = Running(process, port, log, key)
    try:
        yield service
    finally:
        workers = service.workers() if process.poll() is None else []
        process.kill()
        process.wait(20)
        for pid in workers:  # they would end by themselves, but not at once
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class Load:
    """Clients that ask one question after another, and count what they get."""

    def __init__(self, service: Running, clients: int, body: dict, path: str = "/score") -> None:
        self.statuses: Counter[object] = Counter()
        self.problems: list[str] = []
        self._service, self._body, self._path = service, body, path
        self._going = True
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._going = False
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def wait_for(self, answers: int) -> None:
        target = self.statuses[200] + answers
        self._service.wait(lambda: self.statuses[200] >= target)

    def _ask(self) -> None:
        client = self._service.client()
        while self._going:
            try:
                answer = client.post(self._path, json=self._body)
                self.statuses[answer.status_code] += 1
                if answer.status_code != 200:
                    self.problems.append(answer.text)
            except httpx.TransportError as error:  # its worker was killed
                self.statuses[type(error).__name__] += 1
                client.close()
                client = self._service.client()
        client.close()
