"""The engine: programs side by side, each as if it were alone."""

import asyncio
import threading

import pytest

from models.forward import run
from models.generate import generate
from models.next_word import next_word
from models.score import score_all
from tests.app.engine.helpers import Slow, engine_run, numbers, program, same
from tests.models.helpers import KINDS, corpus, model_of


def questions(model):
    lines = corpus(4, seed=5)
    yield from (next_word(model, line, top_k=4) for line in lines)
    yield from (next_word(model, line, top_k=3, prefix="b") for line in lines)
    yield score_all(model, lines, context="Anna sees a dog.")
    yield score_all(model, [" ".join(lines * 9)], words=True)
    yield generate(model, lines[0], max_tokens=12)
    yield generate(model, lines[1], max_tokens=12, strategy="sample", seed=3, n=3)
    yield generate(model, lines[2], max_tokens=6, strategy="beam")


@pytest.mark.parametrize("kind", KINDS)
def test_together_and_from_the_cache_as_alone(kind):
    model = model_of(kind)
    alone = [numbers(run(question, model)) for question in questions(model)]

    async def scenario(engine):
        rounds = []
        for _ in range(2):
            tasks = [
                engine.run(model, question, client=str(i % 3))
                for i, question in enumerate(questions(model))
            ]
            rounds.append([numbers(answer) for answer in await asyncio.gather(*tasks)])
        ((_, stats),) = engine.stats()
        return rounds, stats

    rounds, stats = engine_run(scenario)
    for answers in rounds:
        assert all(same(*pair) for pair in zip(answers, alone, strict=True))
    assert stats.cache.hits > 0
    assert stats.finished == 2 * len(alone)
    assert stats.running == stats.queued == 0


def test_programs_share_steps_away_from_the_loop():
    model = Slow()

    async def scenario(engine):
        return await asyncio.gather(*(engine.run(model, program(20, None, i)) for i in range(6)))

    assert engine_run(scenario) == [0, 1, 2, 3, 4, 5]
    assert len(model.steps) < 30  # 120 one by one
    assert max(map(len, model.steps)) == 6
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_models_do_not_wait_for_each_other():
    slow, quick = Slow("slow", delay=0.05), Slow("quick")

    async def scenario(engine):
        waiting = asyncio.ensure_future(engine.run(slow, program(100)))
        assert await engine.run(quick, program(3)) == "done"
        assert not waiting.done()
        waiting.cancel()

    engine_run(scenario)


def test_a_long_text_is_read_in_pieces_between_which_others_go_on():
    model = Slow()

    async def scenario(engine):
        long = asyncio.ensure_future(engine.run(model, program(8, tokens=[1] * 1000)))
        assert await engine.run(model, program(3)) == "done"
        assert not long.done()
        assert await long == "done"

    engine_run(scenario)
    assert max(map(sum, model.steps)) <= 256 + 64
    assert sum(map(sum, model.steps)) == 8003
