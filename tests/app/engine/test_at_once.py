"""Small programs take the event loop's own time, where that is short."""

import asyncio
import threading
from dataclasses import dataclass, field

from tests.app.engine.helpers import Slow, engine_run, program


async def threads_of(engine, model, steps, **options):
    """Run a program; return what it was computed by."""
    model.threads.clear()
    assert await engine.run(model, program(steps, **options), small=True) == "done"
    await asyncio.sleep(0.01)
    return set(model.threads)


def test_short_steps_are_taken_in_the_event_loop_and_long_ones_never():
    async def scenario(engine):
        loop = threading.get_ident()
        for delay in (0.0, 0.02, 0.0):
            model = Slow(name=f"{delay}", delay=delay)
            # The first step tells how long one takes, and is the thread's.
            assert loop not in await threads_of(engine, model, 1)
            if delay:
                for _ in range(5):
                    assert loop not in await threads_of(engine, model, 2)
            else:  # on a busy machine a short one takes long now and then
                while await threads_of(engine, model, 2) != {loop}:
                    pass
            # Whatever is not small is the thread's.
            model.threads.clear()
            await engine.run(model, program(2))
            assert loop not in model.threads

    engine_run(scenario)


def test_the_event_loop_has_little_time_and_takes_few_tokens():
    async def scenario(engine):
        loop = threading.get_ident()
        model = Slow(delay=0.0)
        await threads_of(engine, model, 1)
        assert loop not in await threads_of(engine, model, 1, tokens=[0] * 60)
        model.delay = 0.0002
        while len(await threads_of(engine, model, 200)) != 2:
            pass  # begun by the one, ended by the other

    engine_run(scenario)


@dataclass
class Noting(Slow):
    """Notes which thread computed how many tokens."""

    computed: list[tuple[int, int]] = field(default_factory=list)

    def compute(self, forwards):
        tokens = sum(len(forward.token_ids) for forward in forwards)
        self.computed.append((threading.get_ident(), tokens))
        return super().compute(forwards)


def test_what_others_wait_for_is_not_computed_in_the_event_loop_either():
    async def scenario(engine):
        loop = threading.get_ident()
        model = Noting(delay=0.0)
        total = 0
        for _ in range(10):
            while await threads_of(engine, model, 2) != {loop}:
                pass
            model.computed.clear()
            await asyncio.gather(
                engine.run(model, program(1, tokens=[0] * 60), small=True),
                engine.run(model, program(1), small=True),
            )
            assert all(tokens < 60 for thread, tokens in model.computed if thread == loop)
            total += sum(tokens for _, tokens in model.computed)
        assert total == 10 * 61

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
