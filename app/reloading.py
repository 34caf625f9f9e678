"""Puts a new checkpoint in the place of a loaded one while the service goes on."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from app.engine.engine import Engine
from app.errors import ReloadError
from app.registry import Registry
from app.siblings import Message, Siblings

if TYPE_CHECKING:
    from prometheus_client.core import Metric
from models.errors import NextwordError
from models.language_model import LanguageModel

_PATIENCE = 300.0  # seconds for the other workers to load a model
_MOST_REASON = 2000  # characters

log = structlog.get_logger()


class Reloading:
    """Loads a model beside the old one, and changes them over when nothing can go wrong any more.

    What runs on the old one comes to its end there; then its thread ends and its memory is free.
    """

    def __init__(self, registry: Registry, engine: Engine, siblings: Siblings | None) -> None:
        """Reload nothing yet."""
        self._registry, self._engine, self._siblings = registry, engine, siblings
        self._one_at_a_time = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._outcomes: Counter[tuple[str, str]] = Counter()  # by the model's name
        if siblings is not None:
            siblings.handle("reload", self._answer)

    async def everywhere(self, name: str) -> LanguageModel:
        """Return the model of this name, loaded anew here and in all other workers.

        Raises:
            NotReadyError: The models are still being loaded.
            ReloadError: It cannot be loaded; the old one goes on.
            UnknownModelError: There is none of this name.
        """
        model = await self.here(name)
        if self._siblings is not None:
            answers = await self._siblings.ask(
                "reload", {"name": name}, patience=_PATIENCE, absent=True
            )
            if reasons := {answer["error"] for answer in answers if answer["error"]}:
                raise ReloadError(f"Not in all workers: {'; '.join(sorted(reasons))}")
        return model

    async def here(self, name: str) -> LanguageModel:
        """Return the model of this name, loaded anew in this process; see `everywhere`."""
        async with self._one_at_a_time:
            try:
                model = await asyncio.to_thread(self._registry.prepare, name)
            except NextwordError as error:
                log.error("model not reloaded", model=name, reason=str(error))
                if name in self._registry.known():  # a client cannot make up others
                    self._outcomes[name, "refused"] += 1
                raise
            old = self._registry.put(model)
            self._outcomes[name, "reloaded"] += 1
        log.info("model reloaded", model=name, checksum=model.checksum)
        if old is not None:
            task = asyncio.ensure_future(self._engine.retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return model

    async def all(self) -> None:
        """Load all models of this process anew; the log tells of those that cannot be."""
        for name in self._registry.known():
            try:
                await self.here(name)
            except NextwordError:
                continue  # it is in the log, and the old one goes on

    def metrics(self) -> Iterator["Metric"]:
        """Yield how often models were loaded anew, or could not be."""
        from prometheus_client.core import CounterMetricFamily

        reloads = CounterMetricFamily(
            "nextword_model_reloads",
            "Checkpoints that took a loaded one's place, or were refused.",
            labels=("model", "outcome"),
        )
        for labels, count in self._outcomes.items():
            reloads.add_metric(labels, count)
        yield reloads

    async def close(self) -> None:
        """Wait for nothing that is still to come to its end."""
        for task in self._retiring:
            task.cancel()

    async def _answer(self, message: Message) -> Message:
        try:
            await self.here(message["name"])
        except NextwordError as error:
            return {"error": str(error)[:_MOST_REASON]}
        return {"error": None}
