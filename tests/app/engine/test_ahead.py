"""Reading ahead: what somebody types next is known, and nobody who asks waits for it."""

import asyncio

import pytest

from app.ahead import likely_next
from app.answers import next_word_answer
from app.engine.engine import Engine
from app.engine.limits import Limits
from app.schemas.requests import NextWordRequest
from models.next_word import Prediction
from tests.app.engine.helpers import Slow, engine_run, program
from tests.models.helpers import model_of


def predictions(**words):
    return [
        Prediction(word, probability, 0.0, rank)
        for rank, (word, probability) in enumerate(words.items(), start=1)
    ]


def listed(answer):
    return {found.word: found.log_prob for found in answer["predictions"]}


def test_the_likeliest_questions_come_first():
    query = NextWordRequest(text="book a", prefix="ho", top_k=5)
    words = predictions(hotel=0.5, home=0.2, ho=0.1, hotels=0.1, hood=0.01)
    likely = likely_next(query, words, 4)
    # Of "hotel": typed on, as "hotels" would be too, or taken.
    assert [(q.text, q.prefix) for q in likely] == [
        ("book a", "hot"),
        ("book a hotel", ""),
        ("book a", "hom"),
        ("book a ho", ""),
    ]
    assert all(q.top_k == 5 for q in likely)
    assert likely_next(query, words, 1) == likely[:1]
    assert likely_next(query, predictions(hood=0.01), 4) == []


def test_behind_a_line_break_no_space_is_put():
    query = NextWordRequest(text="Hello.\n")
    assert likely_next(query, predictions(I=0.9), 4)[1].text == "Hello.\nI"


def test_what_was_read_ahead_is_not_computed_again():
    model = model_of("lstm")
    likely = [NextWordRequest(text="Anna", prefix=prefix, top_k=3) for prefix in ("s", "a", "th")]

    async def ask(engine, questions):
        return [
            await engine.run(model, next_word_answer(model, question), small=True)
            for question in questions
        ]

    async def scenario(engine):
        await ask(engine, [NextWordRequest(text="Anna", top_k=3)])
        engine.read_ahead(model, lambda: [next_word_answer(model, q) for q in likely])
        (stats,) = (stats for _, stats in engine.stats())
        while not stats.tokens_ahead:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        computed, ahead = stats.tokens, stats.tokens_ahead
        answers = await ask(engine, likely)
        assert (stats.tokens, stats.tokens_ahead) == (computed, ahead)
        return answers

    async def anew(engine):
        return await ask(engine, likely)

    for known, fresh in zip(engine_run(scenario), engine_run(anew), strict=True):
        assert listed(known).keys() == listed(fresh).keys()
        assert listed(known) == pytest.approx(listed(fresh), abs=1e-5)


def test_who_asks_waits_for_one_step_at_most():
    slow = Slow(delay=0.01)

    async def scenario(engine):
        await engine.run(slow, program(1))
        engine.read_ahead(slow, lambda: [program(1000, tokens=(0, 0))])
        while [2] not in slow.steps:
            await asyncio.sleep(0.005)
        for small in (False, True):
            before = len(slow.steps)
            await engine.run(slow, program(1, tokens=(0, 0, 0)), small=small)
            assert slow.steps[before:].index([3]) <= 1

    engine_run(scenario)


def test_of_two_calls_the_later_counts():
    slow, made = Slow(), []

    async def scenario(engine):
        await engine.run(slow, program(1))
        for name in ("first", "second"):
            engine.read_ahead(slow, lambda name=name: made.append(name) or [program(1)])
        await asyncio.sleep(0.1)

    engine_run(scenario)
    assert made == ["second"]
    assert slow.steps == [[1], [1]]


def test_a_second_event_loop_reads_ahead_too():
    engine, model, ended = Engine(Limits()), Slow(delay=0.0), []

    async def ask(close):
        await engine.run(model, program(1))
        engine.read_ahead(model, lambda: [program(2, ended)])
        if not close:
            return  # before anything was read ahead
        async with asyncio.timeout(20):
            while not ended:
                await asyncio.sleep(0.01)
        await engine.close()

    asyncio.run(ask(close=False))
    assert not ended
    asyncio.run(ask(close=True))
    assert ended


def test_a_busy_model_reads_nothing_ahead():
    slow = Slow()

    async def scenario(engine):
        work = asyncio.ensure_future(engine.run(slow, program(20)))
        await asyncio.sleep(0)
        engine.read_ahead(slow, lambda: [program(1, tokens=(0, 0))])
        await work
        await asyncio.sleep(0.05)

    engine_run(scenario)
    assert slow.steps == [[1]] * 20


def test_what_was_expected_before_others_came_is_not_read_behind_them():
    slow, made = Slow(), []

    async def scenario(engine):
        await engine.run(slow, program(1))
        engine.read_ahead(slow, lambda: made.append("stale") or [program(1)])
        work = asyncio.ensure_future(engine.run(slow, program(1)))
        await asyncio.sleep(0)
        engine.read_ahead(slow, lambda: made.append("while busy") or [program(1)])
        await work
        await asyncio.sleep(0.05)

    engine_run(scenario)
    assert made == []
    assert slow.steps == [[1], [1]]
