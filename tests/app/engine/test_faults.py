"""What goes wrong in one program touches no other."""

import asyncio

import pytest

from models.forward import Forward
from models.next_word import next_word
from models.score import score_all
from tests.app.engine.helpers import Slow, engine_run, program
from tests.models.helpers import corpus, model_of


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
