"""The driver: off the event loop, one program at a time for each model, in order."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import pytest

from app.driver import ThreadDriver
from models.forward import Forward


@dataclass
class Model:
    """Computes nothing, and tells where and when."""

    name: str
    delay: float = 0.005
    threads: set[int] = field(default_factory=set)
    running: int = 0
    most_running: int = 0

    def compute(self, forwards):
        self.threads.add(threading.get_ident())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        time.sleep(self.delay)
        self.running -= 1
        return [None for _ in forwards]


def program(steps: int, ended: list | None = None, result: object = "done"):
    try:
        for _ in range(steps):
            yield [Forward([0])]
        return result
    finally:
        if ended is not None:
            ended.append(result)


def run(scenario):
    async def bounded():
        async with asyncio.timeout(20):
            driver = ThreadDriver()
            try:
                return await scenario(driver)
            finally:
                await driver.close()

    return asyncio.run(bounded())


def test_programs_of_a_model_run_one_by_one_in_order_away_from_the_loop():
    model = Model("a")
    ended: list[int] = []

    async def scenario(driver):
        programs = [program(3, ended, i) for i in range(6)]
        return await asyncio.gather(*(driver.run(model, p) for p in programs))

    assert run(scenario) == [0, 1, 2, 3, 4, 5]
    assert ended == [0, 1, 2, 3, 4, 5]
    assert model.most_running == 1
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_models_do_not_wait_for_each_other():
    slow, quick = Model("slow", delay=0.05), Model("quick")

    async def scenario(driver):
        waiting = asyncio.ensure_future(driver.run(slow, program(100)))
        assert await driver.run(quick, program(3)) == "done"
        assert not waiting.done()
        waiting.cancel()

    run(scenario)


def test_what_a_program_raises_arrives():
    def failing():
        yield [Forward([0])]
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        run(lambda driver: driver.run(Model("a"), failing()))


def test_a_cancelled_program_ends_at_its_next_step_and_a_waiting_one_never_begins():
    model = Model("a", delay=0.02)
    ended: list[str] = []

    async def scenario(driver):
        running = asyncio.ensure_future(driver.run(model, program(1000, ended, "running")))
        waiting = asyncio.ensure_future(driver.run(model, program(1000, ended, "waiting")))
        after = asyncio.ensure_future(driver.run(model, program(1, ended, "after")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        running.cancel()
        assert await after == "after"

    run(scenario)
    assert ended == ["running", "after"]


def test_closing_ends_what_runs_and_drops_what_waits():
    model = Model("a")
    ended: list[str] = []

    async def scenario(driver):
        tasks = [
            asyncio.ensure_future(driver.run(model, program(10_000, ended, name)))
            for name in ("running", "waiting")
        ]
        await asyncio.sleep(0.03)
        started = time.perf_counter()
        await driver.close()
        assert time.perf_counter() - started < 1
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, BaseException) for result in results)

    run(scenario)
    assert ended == ["running"]
