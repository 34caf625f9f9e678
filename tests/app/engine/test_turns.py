"""Nobody waits long for anybody else."""

import asyncio

from tests.app.engine.helpers import Slow, engine_run, program


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
    assert max(map(sum, model.steps)) <= 512 + 64


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
