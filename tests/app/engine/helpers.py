"""A model that only takes time, programs for it, and an engine to run them."""

import asyncio
import threading
import time
from dataclasses import dataclass, field, fields

import pytest
import torch

from app.engine.engine import Engine
from app.engine.limits import Limits
from models.forward import Forward, Pass


@dataclass
class Slow:
    """A model that computes nothing, takes its time, and notes what it was asked for."""

    name: str = "slow"
    delay: float = 0.004
    threads: set[int] = field(default_factory=set)
    steps: list[list[int]] = field(default_factory=list)  # tokens of each pass of each step

    def compute(self, forwards):
        self.threads.add(threading.get_ident())
        self.steps.append([len(forward.token_ids) for forward in forwards])
        time.sleep(self.delay)
        if any(token < 0 for forward in forwards for token in forward.token_ids):
            raise IndexError("no such token")
        return [Pass(torch.zeros(0), Nothing()) for _ in forwards]


class Nothing:
    """A state that takes no room."""

    num_bytes = 0


def program(steps, ended=None, result="done", tokens=(0,)):
    """Ask for ``steps`` passes that no cache can spare."""
    try:
        for _ in range(steps):
            yield [Forward(tokens, None, "all")]
        return result
    finally:
        if ended is not None:
            ended.append(result)


def engine_run(scenario, **limits):
    """Run a scenario with an engine, and close it."""

    async def bounded():
        async with asyncio.timeout(60):
            engine = Engine(Limits(**limits))
            try:
                return await scenario(engine)
            finally:
                await engine.close()

    return asyncio.run(bounded())


def numbers(answer):
    """Return all numbers and texts of an answer, in order."""
    if isinstance(answer, str | int | float | None):
        return [answer]
    if isinstance(answer, list | tuple):
        return [number for part in answer for number in numbers(part)]
    return numbers([getattr(answer, part.name) for part in fields(answer)])


def same(found, wanted):
    return [pytest.approx(n, abs=2e-5) if isinstance(n, float) else n for n in wanted] == found
