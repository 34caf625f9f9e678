"""Runs programs away from the event loop.

Routes know `Driver` alone. This plain version gives every model a thread that runs one program at
a time, first come, first served; an engine that merges the passes of many programs can take its
place, and neither routes nor programs would notice.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from app.errors import NotReadyError
from models.forward import Forward, Pass, Program, run
from models.language_model import LanguageModel

R = TypeVar("R")


class Driver(Protocol):
    """Something that runs programs."""

    async def run(
        self, model: LanguageModel, program: Program[R], *, items: int = 1, client: str = ""
    ) -> R:
        """Return the program's result; when cancelled, the program ends at its next step.

        Args:
            model: Computes the passes.
            program: What to run.
            items: Sentences or sequences that it works on, for which the queue has bounded room.
            client: Who asks; clients take turns.

        Raises:
            BusyError: The queue has no room for so many items.
            DeadlineError: The program took too long.
            NotReadyError: The service is shutting down.
        """

    async def close(self) -> None:
        """End all programs."""


class ThreadDriver:
    """One worker thread a model, one program at a time."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._running: set[_Stoppable] = set()

    async def run(
        self, model: LanguageModel, program: Program[R], *, items: int = 1, client: str = ""
    ) -> R:
        """Run ``program`` when all that came before it for this model have ended.

        Cancelled while it waits, it is dropped from the queue: cancelling the future of an
        executor does that.
        """
        worker = self._workers.get(model.name)
        if worker is None:
            worker = ThreadPoolExecutor(1, thread_name_prefix=f"model-{model.name}")
            self._workers[model.name] = worker
        runner = _Stoppable(model)
        self._running.add(runner)
        try:
            return await asyncio.get_running_loop().run_in_executor(worker, _drive, program, runner)
        except _StoppedError:
            raise NotReadyError("The service is shutting down.") from None
        finally:
            runner.stopped = True
            self._running.discard(runner)

    async def close(self) -> None:
        """Stop running programs at their next step, drop waiting ones, and end the threads."""
        for worker in self._workers.values():
            worker.shutdown(wait=False, cancel_futures=True)
        for runner in self._running:
            runner.stopped = True
        for worker in self._workers.values():
            await asyncio.to_thread(worker.shutdown)


def _drive(program: Program[R], runner: "_Stoppable") -> R:
    try:
        return run(program, runner)
    finally:
        program.close()  # one that was stopped frees its states now, in its own thread


class _StoppedError(Exception):
    """Nobody waits for the result any more."""


class _Stoppable:
    """The model, until it is stopped from another thread; then the next pass ends the program."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.stopped = False

    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        if self.stopped:
            raise _StoppedError
        return self._model.compute(forwards)
