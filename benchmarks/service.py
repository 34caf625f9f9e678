"""Servers as processes of their own, ours and the peers'."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.requests import HEALTH, READY
from benchmarks.worker import ROOT, MissingError, environment

PATIENCE = 120  # seconds that a start may take


class Service:
    """A server on a port of this machine, started and ready; it ends with its context."""

    def __init__(
        self,
        command: Sequence[str | Path],
        ready: bytes,
        log: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start the server and wait until it is ready.

        Args:
            command: To start it; the port is appended.
            ready: Request that is answered with 200 once it is.
            log: File for what it writes.
            settings: Variables for its environment.

        Raises:
            MissingError: It ended instead.
        """
        self.port = free_port()
        began = time.perf_counter()
        try:
            with log.open("a") as file:
                self._process = subprocess.Popen(
                    [*command, str(self.port)],
                    cwd=ROOT,
                    env={**installed_environment(), **(settings or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                )
        except OSError as error:
            raise MissingError(f"{command[0]}: {error.strerror}") from None
        try:
            self._wait(ready, log)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.perf_counter() - began

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def stop(self) -> None:
        """Ask the process to end, and end it if it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)

    def _wait(self, ready: bytes, log: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise MissingError(f"the server ended: {' '.join(last)[:300]}")
            if ask(self.port, ready).startswith(b"HTTP/1.1 200 "):
                return
            time.sleep(0.005)
        raise MissingError(f"the server was not ready after {PATIENCE} seconds")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self.stop()


def nextword_service(models_dir: Path, log: Path, **settings: str) -> Service:
    """Start our service.

    Args:
        models_dir: Folder of its checkpoints.
        log: File for its log.
        settings: Other settings, as its environment variables name them behind ``NEXTWORD_``.
    """
    values = {f"NEXTWORD_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-c", "from app.cli import main; main()"]
    command += ["serve", "--models-dir", str(models_dir.resolve()), "--port"]
    return Service(command, READY, log, values)


def peer_service(
    python: Path | None, module: str, log: Path, *, processes: int = 1, **settings: str
) -> Service:
    """Start an application of `benchmarks.peers` under uvicorn, with the loop and parser of ours.

    Args:
        python: Of the peers' environment.
        module: Of the application.
        log: File for its log.
        processes: That serve.
        settings: Other settings, as environment variables name them.

    Raises:
        MissingError: There is no Python for it, or it lacks a library.
    """
    if python is None:
        raise MissingError("no environment of peers was given (--peers)")
    command = [str(python), "-m", "uvicorn", f"benchmarks.peers.{module}:app", "--loop", "uvloop"]
    command += ["--http", "httptools", "--ws", "none", "--no-access-log"]
    command += ["--log-level", "warning", "--workers", str(processes), "--port"]
    threads = int(settings.get("threads", "1"))
    values = {name.upper(): value for name, value in settings.items()}
    return Service(command, HEALTH, log, environment(threads) | values)


def installed_environment() -> dict[str, str]:
    """Return the environment of a program that was installed: its modules are compiled once."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, request: bytes, timeout: float = 10) -> bytes:
    """Return the answer to one request, or nothing where nobody listens.

    The connection is closed behind it.
    """
    head = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(head)
            while part := connection.recv(65_536):
                answer += part
    except OSError:
        return b""
    return answer
