"""Runs programs for the event loop: a worker a model."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from app.engine.job import Job
from app.engine.limits import Limits
from app.engine.stats import Stats
from app.engine.worker import Worker
from app.errors import DeadlineError
from models.forward import Program
from models.language_model import LanguageModel

R = TypeVar("R")


class Engine:
    """The `app.driver.Driver` that merges the passes of all programs of a model."""

    def __init__(self, limits: Limits) -> None:
        """Start no thread yet."""
        self._limits = limits
        self._workers: dict[int, Worker] = {}  # by the model's identity

    async def run(
        self,
        model: LanguageModel,
        program: Program[R],
        *,
        items: int = 1,
        client: str = "",
        small: bool = False,
    ) -> R:
        """Return the program's result; see `Driver`."""
        worker = self._workers.get(id(model))
        if worker is None:
            worker = self._workers[id(model)] = Worker(model, self._limits)
        job = Job(program, items, client, small=small)
        worker.submit(job)
        timer = job.loop.call_later(self._limits.deadline, self._expire, job)
        try:
            result: R = await job.future
            return result
        finally:
            timer.cancel()
            if not job.ended:
                worker.drop(job)

    def read_ahead(
        self, model: LanguageModel, programs: Callable[[], Sequence[Program[object]]]
    ) -> None:
        """Run programs while there is nothing else to do; see `Driver`."""
        if (worker := self._workers.get(id(model))) is not None:
            worker.read_ahead(programs)

    def stats(self) -> Iterable[tuple[str, Stats]]:
        """Return each model's name and counts."""
        return [(worker.model.name, worker.stats) for worker in self._workers.values()]

    async def close(self) -> None:
        """End all programs at their next step, and the threads."""
        for worker in self._workers.values():
            worker.close()
        for worker in self._workers.values():
            await asyncio.to_thread(worker.join)

    def _expire(self, job: Job) -> None:
        seconds = f"{self._limits.deadline:g} seconds"
        job.settle(None, DeadlineError(f"The answer was not there within {seconds}."))
