"""Processes that do one side's work on command, and stand still while another side works."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent


class MissingError(Exception):
    """A peer cannot be measured here; the message says what it lacks."""


class WorkerError(Exception):
    """A worker failed; the message is its own."""


def absolute(path: str) -> Path:
    """Return the path from the root; links stay, for an environment's Python is one."""
    return Path(path).absolute()


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that may use so many threads."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **counts, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


class Worker:
    """A module of this package that answers commands, in a process of its own.

    It is stopped (SIGSTOP) except while a command runs, so that no thread of it waits busily while
    another side is measured.
    """

    def __init__(self, python: Path, module: str, *, threads: int, log: Path) -> None:
        """Start the process and wait until it has imported everything.

        Raises:
            MissingError: There is no such Python, or it lacks a library.
        """
        self._name, self._log = module, log
        try:
            with log.open("a") as stderr:
                self._process = subprocess.Popen(
                    [python, "-m", module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    cwd=ROOT,
                    env=environment(threads),
                )
        except OSError as error:
            raise MissingError(f"{python}: {error.strerror}") from None
        try:
            self._answer()
        except WorkerError:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise MissingError(" ".join(last)) from None
        except BaseException:
            self.stop()
            raise
        self._process.send_signal(signal.SIGSTOP)

    def call(self, do: str, **arguments: Any) -> Any:
        """Let the process do something, and return its answer.

        Raises:
            MissingError: It lacks a library for this.
            WorkerError: It failed.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        try:
            return self._answer()
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(timeout=10)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait(timeout=10)
            raise WorkerError(f"{self._name} ended with status {status}; see {self._log}")
        answer = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        if "error" in answer:
            raise WorkerError(f"{self._name}: {answer['error']}; see {self._log}")
        return answer["result"]


class Crew:
    """Workers, started when they are first asked for; all of them end with it."""

    def __init__(self, peers: Path | None, log: Path) -> None:
        """Start nothing yet.

        Args:
            peers: Python of the peers' environment.
            log: Where the workers' own messages go.
        """
        self._peers, self._log = peers, log
        self._workers: dict[tuple[str, int], Worker] = {}

    def get(self, module: str, *, threads: int) -> Worker:
        """Return the worker of a module of this package with so many threads.

        Raises:
            MissingError: The peer is not there.
        """
        key = module, threads
        if key not in self._workers:
            python: Path | None = Path(sys.executable)
            if module.startswith("peers."):
                python = self._peers
            if python is None:
                raise MissingError("no environment of peers was given (--peers)")
            self._workers[key] = Worker(
                python, f"benchmarks.{module}", threads=threads, log=self._log
            )
        return self._workers[key]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()
