"""When programs must be over."""

import asyncio

import pytest

from app.engine.deadlines import Deadlines
from app.engine.engine import Engine
from app.engine.job import Job
from app.engine.limits import Limits
from app.errors import DeadlineError
from tests.app.engine.helpers import Slow, program


def test_each_job_has_its_own_time():
    async def scenario():
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, 0.2)
        jobs, began = [], []
        for _ in range(4):
            jobs.append(Job(program(1), 1, "", small=False))
            began.append(loop.time())
            deadlines.begin(jobs[-1])
            await asyncio.sleep(0.03)
        deadlines.end(jobs[1])
        for job, start in zip(jobs, began, strict=True):
            if job is not jobs[1]:
                with pytest.raises(DeadlineError, match=r"within 0\.2 seconds"):
                    await job.future
                assert 0.19 < loop.time() - start < 0.2 + 1
        assert not jobs[1].future.done()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_stopped_one_ends_nothing():
    async def scenario():
        deadlines = Deadlines(asyncio.get_running_loop(), 0.05)
        job = Job(program(1), 1, "", small=False)
        deadlines.begin(job)
        deadlines.stop()
        await asyncio.sleep(0.15)
        assert not job.future.done()

    asyncio.run(scenario())


def test_a_second_event_loop_has_deadlines_too():
    engine, model = Engine(Limits(deadline=0.3)), Slow(delay=0.0)

    async def quick():
        return await engine.run(model, program(2))

    async def long():
        model.delay = 1.0
        try:
            with pytest.raises(DeadlineError):
                await engine.run(model, program(3))
        finally:
            model.delay = 0.0
            await engine.close()

    assert asyncio.run(quick()) == "done"
    asyncio.run(asyncio.wait_for(long(), 20))
