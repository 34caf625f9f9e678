"""Runs programs for the event loop: a worker a model."""

import asyncio
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from app.engine.deadlines import Deadlines
from app.engine.job import Job
from app.engine.limits import Limits
from app.engine.stats import Stats
from app.engine.worker import RetiredError, Worker
from models.forward import Program
from models.language_model import LanguageModel

R = TypeVar("R")


class Engine:
    """The `app.driver.Driver` that merges the passes of all programs of a model."""

    def __init__(self, limits: Limits) -> None:
        """Start no thread yet."""
        self._limits = limits
        # Told of each program that has ended: model, items, tokens computed, and the result.
        self.watch: Callable[[LanguageModel, int, int, Any], None] | None = None
        self._deadlines: Deadlines | None = None  # of the loop that asked last
        self._workers: dict[int, Worker] = {}  # by the model's identity
        self._ending: dict[Worker, asyncio.Task[None]] = {}
        self._ended: dict[str, Stats] = {}  # of workers that have ended, by the model's name
        # Models that were replaced and that a request still holds, by identity.
        self._retired: weakref.WeakValueDictionary[int, LanguageModel] = (
            weakref.WeakValueDictionary()
        )

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
        job = Job(program, items, client, small=small)
        worker = self._submit(model, job)
        deadlines = self._deadlines_of(job.loop)
        deadlines.begin(job)
        result: R | None = None
        try:
            result = await job.future
            return result
        finally:
            deadlines.end(job)
            if self.watch is not None:
                self.watch(model, items, job.tokens, result)
            if not job.ended:
                worker.drop(job)

    def _deadlines_of(self, loop: asyncio.AbstractEventLoop) -> Deadlines:
        if self._deadlines is None or self._deadlines.loop is not loop:
            self._deadlines = Deadlines(loop, self._limits.deadline)
        return self._deadlines

    def _submit(self, model: LanguageModel, job: Job) -> Worker:
        worker = self._workers.get(id(model))
        if worker is not None:
            try:
                worker.submit(job)
                return worker
            except RetiredError:
                pass
        # A request that holds a replaced model, and had nothing to do with it for a moment, goes
        # on with it.
        worker = self._workers[id(model)] = Worker(model, self._limits)
        worker.submit(job)
        if id(model) in self._retired:
            self._end(worker)
        return worker

    async def retire(self, model: LanguageModel) -> None:
        """Let what runs on a model come to its end, then free what was kept for it.

        Whoever still holds the model may go on asking. Returns at that end.
        """
        self._retired[id(model)] = model
        if (worker := self._workers.get(id(model))) is not None:
            await asyncio.shield(self._ending.get(worker) or self._end(worker))

    def _end(self, worker: Worker) -> "asyncio.Task[None]":
        worker.retire()

        async def wait() -> None:
            await asyncio.to_thread(worker.join)
            del self._ending[worker]
            if self._workers.get(id(worker.model)) is worker:
                del self._workers[id(worker.model)]
            name = worker.model.name
            ended = replace(worker.stats, queued=0, running=0)
            self._ended[name] = self._ended.get(name, Stats()).plus(ended)

        task = self._ending[worker] = asyncio.ensure_future(wait())
        return task

    def read_ahead(
        self, model: LanguageModel, programs: Callable[[], Sequence[Program[object]]]
    ) -> None:
        """Run programs while there is nothing else to do; see `Driver`."""
        if (worker := self._workers.get(id(model))) is not None:
            worker.read_ahead(programs)

    def stats(self) -> Iterable[tuple[str, Stats]]:
        """Return each model's name and counts, also of those of that name before it."""
        found: dict[str, Stats] = {}
        workers = dict.fromkeys((*self._workers.values(), *self._ending))
        for worker in workers:
            name = worker.model.name
            found[name] = found[name].plus(worker.stats) if name in found else worker.stats
        for name, ended in self._ended.items():
            found[name] = ended.plus(found[name]) if name in found else ended
        return list(found.items())

    async def close(self) -> None:
        """End all programs at their next step, and the threads."""
        workers = list(dict.fromkeys((*self._workers.values(), *self._ending)))
        if self._deadlines is not None:
            self._deadlines.stop()
        for worker in workers:
            worker.close()
        for worker in workers:
            await asyncio.to_thread(worker.join)
