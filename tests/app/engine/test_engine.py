"""The engine: programs side by side, each as if it were alone."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import pytest
import torch

from app.engine.engine import Engine
from app.engine.limits import Limits
from app.errors import BusyError, DeadlineError, NotReadyError
from models.forward import Forward, Pass, run
from models.generate import generate
from models.next_word import next_word
from models.score import score_all
from tests.models.helpers import KINDS, corpus, model_of


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


def questions(model):
    lines = corpus(4, seed=5)
    yield from (next_word(model, line, top_k=4) for line in lines)
    yield from (next_word(model, line, top_k=3, prefix="b") for line in lines)
    yield score_all(model, lines, context="Anna sees a dog.")
    yield score_all(model, [" ".join(lines * 9)], words=True)
    yield generate(model, lines[0], max_tokens=12)
    yield generate(model, lines[1], max_tokens=12, strategy="sample", seed=3, n=3)
    yield generate(model, lines[2], max_tokens=6, strategy="beam")


def numbers(answer):
    """Return all numbers and texts of an answer, in order."""
    if isinstance(answer, str | int | float | None):
        return [answer]
    if isinstance(answer, list):
        return [number for part in answer for number in numbers(part)]
    return [number for part in vars(answer).values() for number in numbers(part)]


def same(found, wanted):
    return [pytest.approx(n, abs=2e-5) if isinstance(n, float) else n for n in wanted] == found


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


def test_many_long_texts_do_not_make_a_step_long():
    model = Slow()

    async def scenario(engine):
        many = [engine.run(model, program(1, tokens=[1] * 200), client="many") for _ in range(30)]
        waiting = [asyncio.ensure_future(one) for one in many]
        await asyncio.sleep(0.02)
        await engine.run(model, program(2), client="one")
        assert sum(task.done() for task in waiting) < 25
        await asyncio.gather(*waiting)

    engine_run(scenario)
    assert max(map(sum, model.steps)) <= 256 + 64


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


def test_what_a_program_raises_arrives_and_touches_no_other():
    def failing():
        yield [Forward([0], None, "all")]
        raise ValueError("as it was")

    async def scenario(engine):
        tasks = [program(5), failing(), program(5)]
        model = Slow()
        return await asyncio.gather(
            *(engine.run(model, task) for task in tasks), return_exceptions=True
        )

    first, second, third = engine_run(scenario)
    assert (first, third) == ("done", "done")
    assert isinstance(second, ValueError)
    assert str(second) == "as it was"


def test_a_pass_that_cannot_be_computed_fails_alone():
    async def scenario(engine):
        tasks = [program(5), program(5, tokens=[-1]), program(5)]
        model = Slow()
        return await asyncio.gather(
            *(engine.run(model, task) for task in tasks), return_exceptions=True
        )

    first, second, third = engine_run(scenario)
    assert (first, third) == ("done", "done")
    assert isinstance(second, IndexError)


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


def test_clients_take_turns():
    model = Slow(delay=0.002)
    order: list[str] = []

    async def scenario(engine):
        greedy = [engine.run(model, program(5, order, "greedy"), client="a") for _ in range(40)]
        tasks = [asyncio.ensure_future(one) for one in greedy]
        await asyncio.sleep(0.02)
        await engine.run(model, program(5, order, "modest"), client="b")
        await asyncio.gather(*tasks)

    engine_run(scenario, running_items=4)
    assert order.index("modest") < 20


def test_a_short_request_is_not_held_up_by_long_ones_of_the_same_client():
    model = Slow(delay=0.001)
    order: list[str] = []

    async def scenario(engine):
        long = [engine.run(model, program(60, order, "long", [1] * 8)) for _ in range(100)]
        tasks = [asyncio.ensure_future(one) for one in long]
        await asyncio.sleep(0.02)
        await engine.run(model, program(3, order, "short"))
        assert not any(task.done() for task in tasks)
        await asyncio.gather(*tasks)

    engine_run(scenario)
    assert order[0] == "short"


def test_an_answer_at_once_in_a_crowd_leaves_the_others_alone():
    model = model_of("lstm")
    lines = corpus(60, seed=3)

    async def scenario(engine):
        await engine.run(model, next_word(model, "Anna", top_k=2), client="keys", small=True)
        crowd = [
            asyncio.ensure_future(engine.run(model, score_all(model, lines * 4), client=str(i)))
            for i in range(3)
        ]
        for _ in range(40):
            await asyncio.sleep(0.002)
            await engine.run(model, next_word(model, "Anna", top_k=2), client="keys", small=True)
        return await asyncio.gather(*crowd)

    first, second, third = (
        [score.log_prob for score in answers] for answers in engine_run(scenario)
    )
    assert first == pytest.approx(second, abs=1e-4)
    assert first == pytest.approx(third, abs=1e-4)


def test_a_failing_pass_beside_another_of_its_program_touches_no_other():
    def culprit():
        yield [Forward([-1], None, "all"), Forward([0], None, "all")]

    async def scenario(engine):
        model = Slow()
        tasks = [program(5), culprit(), program(5)]
        return await asyncio.gather(
            *(engine.run(model, t, client=str(i)) for i, t in enumerate(tasks)),
            return_exceptions=True,
        )

    first, second, third = engine_run(scenario)
    assert (first, third) == ("done", "done")
    assert isinstance(second, IndexError)


def test_a_long_request_is_not_starved_by_short_ones_of_the_same_client():
    model = Slow(delay=0.001)

    async def scenario(engine):
        long = asyncio.ensure_future(engine.run(model, program(40, tokens=[1] * 32)))

        async def short():
            while not long.done():
                await engine.run(model, program(2, tokens=[1] * 8))

        await asyncio.gather(*(short() for _ in range(64)))
        assert await long == "done"

    engine_run(scenario, deadline=5)


@pytest.mark.parametrize("small", [True, False])
def test_a_panic_in_a_library_is_an_error_like_others(small):
    class PanicError(BaseException):
        pass

    def panicking():
        raise PanicError
        yield

    async def scenario(engine):
        model = Slow()
        with pytest.raises(RuntimeError, match="PanicError"):
            await engine.run(model, panicking(), small=small)
        assert await engine.run(model, program(3)) == "done"

    engine_run(scenario)


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


@pytest.mark.parametrize("want", ["last", "all", "targets", "none"])
def test_what_is_asked_for_once_is_not_kept(want):
    model = model_of("transformer")
    tokens = [i % model.tokenizer.vocab_size for i in range(150)]  # read in pieces
    targets = tokens if want == "targets" else ()

    def asks():
        (begun,) = yield [Forward(tokens[:3])]
        (result,) = yield [Forward(tokens, begun.state, want, targets, once=True)]
        (behind,) = yield [Forward(tokens[:2], result.state)]
        return result.log_probs, behind.log_probs

    async def scenario(engine):
        results = [await engine.run(model, asks()) for _ in range(2)]
        ((_, stats),) = engine.stats()
        return results, stats

    results, stats = engine_run(scenario)
    (whole, behind) = run(asks(), model)
    for mine, behind_mine in results:
        torch.testing.assert_close(mine, whole)
        torch.testing.assert_close(behind_mine, behind)
    assert (stats.cache.entries, stats.tokens) == (1, 3 + 2 * 152)


def test_generated_tokens_take_no_room_of_the_cache():
    model = model_of("transformer")

    async def scenario(engine):
        await engine.run(model, generate(model, "the cat", max_tokens=8))
        await engine.run(model, generate(model, "the cat", max_tokens=8, strategy="beam"))
        ((_, stats),) = engine.stats()
        return stats.cache.entries

    assert engine_run(scenario) == 1


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_typing_on_costs_a_step_a_token_and_going_back_none(kind):
    model = model_of(kind)
    line = "Anna sees a dog in the red house and my old computer is very slow"
    words = line.split(" ")
    texts = [" ".join(words[: i + 1]) for i in range(len(words))]

    async def scenario(engine):
        async def computed(text):
            ((_, stats),) = engine.stats()
            before = stats.tokens
            await engine.run(model, generate(model, text, max_tokens=1))
            return stats.tokens - before

        await engine.run(model, generate(model, "", max_tokens=1))
        typed = [await computed(text) for text in texts]
        back = [await computed(text) for text in reversed(texts)]
        return typed, back

    typed, back = engine_run(scenario)
    tokens = [len(model.tokenizer.encode(text).token_ids) for text in texts]
    assert typed == [b - a for a, b in zip([0, *tokens[:-1]], tokens, strict=True)]
    assert back == [0] * len(texts)
