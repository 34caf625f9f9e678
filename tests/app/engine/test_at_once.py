"""Small programs take the event loop's own time, where that is short."""

import asyncio
import threading

from tests.app.engine.helpers import Slow, engine_run, program


def test_short_steps_are_taken_in_the_event_loop_and_long_ones_never():
    async def scenario(engine):
        loop = threading.get_ident()
        for delay, at_once in ((0.0, True), (0.02, False), (0.0, True)):
            model = Slow(name=f"{delay}", delay=delay)
            for _ in range(5):  # the first step tells how long one takes, and is the thread's
                model.threads.clear()
                assert await engine.run(model, program(2), small=True) == "done"
                await asyncio.sleep(0.01)
            assert model.threads == {loop} if at_once else loop not in model.threads
            # Whatever is not small is the thread's.
            model.threads.clear()
            await engine.run(model, program(2))
            assert loop not in model.threads

    engine_run(scenario)


def test_the_event_loop_has_little_time_and_takes_few_tokens():
    async def scenario(engine):
        loop = threading.get_ident()
        model = Slow(delay=0.0)
        await engine.run(model, program(1), small=True)
        model.threads.clear()
        await engine.run(model, program(1, tokens=[0] * 60), small=True)
        assert loop not in model.threads
        model.delay = 0.0002
        await asyncio.sleep(0.05)
        model.threads.clear()
        await engine.run(model, program(200), small=True)
        assert len(model.threads) == 2  # begun by the one, ended by the other

    engine_run(scenario)


def test_what_fails_at_once_fails_alone():
    async def scenario(engine):
        model = Slow(delay=0.0)
        await engine.run(model, program(1), small=True)
        answers = await asyncio.gather(
            engine.run(model, program(3, tokens=[-1]), small=True),
            engine.run(model, program(3), small=True),
            return_exceptions=True,
        )
        assert isinstance(answers[0], IndexError)
        assert answers[1] == "done"
        (stats,) = (stats for _, stats in engine.stats())
        assert (stats.failed, stats.finished, stats.running, stats.queued) == (1, 2, 0, 0)

    engine_run(scenario)
