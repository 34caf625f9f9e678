"""How programs leave before their end: by their client, by the clock, by the service's end."""

import asyncio
import time

import pytest

from app.errors import BusyError, DeadlineError, NotReadyError
from tests.app.engine.helpers import Slow, engine_run, program


def test_a_cancelled_program_leaves_at_its_next_step_and_a_waiting_one_never_begins():
    model = Slow(delay=0.02)
    ended: list[str] = []

    async def scenario(engine):
        running = asyncio.ensure_future(engine.run(model, program(1000, ended, "running")))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(engine.run(model, program(1000, ended, "waiting")))
        after = asyncio.ensure_future(engine.run(model, program(1, ended, "after")))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        started = time.perf_counter()
        assert await after == "after"
        assert time.perf_counter() - started < 0.5
        ((_, stats),) = engine.stats()
        assert (stats.dropped, stats.finished) == (2, 1)
        assert stats.running == stats.queued == 0

    engine_run(scenario, running_items=1)
    assert ended == ["running", "after"]


def test_a_full_queue_refuses_and_takes_again_what_fits():
    model = Slow()

    async def scenario(engine):
        alone = asyncio.ensure_future(engine.run(model, program(9), items=50))  # more than fit
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as refused:
            await engine.run(model, program(1))
        assert 1 <= refused.value.retry_after <= 60
        await alone
        assert (
            await asyncio.gather(*(engine.run(model, program(3), items=2) for _ in range(5)))
            == ["done"] * 5
        )
        ((_, stats),) = engine.stats()
        assert stats.rejected == 1

    engine_run(scenario, queue_items=10)


def test_whoever_waits_too_long_is_told_and_leaves():
    model = Slow(delay=0.01)
    ended: list[str] = []

    async def scenario(engine):
        started = time.perf_counter()
        results = await asyncio.gather(
            engine.run(model, program(10_000, ended, "running")),
            engine.run(model, program(10_000, ended, "waiting")),
            return_exceptions=True,
        )
        assert time.perf_counter() - started < 5
        assert [type(result) for result in results] == [DeadlineError, DeadlineError]
        assert await engine.run(model, program(1, ended, "after")) == "after"

    engine_run(scenario, deadline=0.2, running_items=1)
    assert ended == ["running", "after"]


def test_closing_ends_what_runs_and_what_waits_and_nothing_is_taken_any_more():
    model = Slow()
    ended: list[str] = []

    async def scenario(engine):
        tasks = [
            asyncio.ensure_future(engine.run(model, program(10_000, ended, name)))
            for name in ("running", "waiting")
        ]
        await asyncio.sleep(0.03)
        started = time.perf_counter()
        await engine.close()
        assert time.perf_counter() - started < 1
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, NotReadyError) for result in results)
        with pytest.raises(NotReadyError):
            await engine.run(model, program(1))

    engine_run(scenario, running_items=1)
    assert ended == ["running"]
