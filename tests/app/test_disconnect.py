"""A client that goes away leaves no work behind."""

import asyncio
import time

import httpx
import pytest

from app.settings import Settings
from models.language_model import LanguageModel
from tests.app.caller import Caller, ready_app

LONG = {"text": "we sold", "strategy": "sample", "seed": 1, "max_tokens": 1000, "n": 4}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many forward passes each step of the models computed, each step made slow."""
    steps: list[int] = []
    compute = LanguageModel.compute

    def slow(self: LanguageModel, forwards):
        steps.append(len(forwards))
        time.sleep(0.005)
        return compute(self, forwards)

    monkeypatch.setattr(LanguageModel, "compute", slow)
    return steps


async def settled(steps: list[int]) -> int:
    """Wait until no more steps are computed, and return how many there were."""
    count = -1
    while count != len(steps):
        count = len(steps)
        await asyncio.sleep(0.15)
    return count


@pytest.mark.parametrize("stream", [True, False])
def test_generation_stops_when_its_client_goes(settings: Settings, passes, stream):
    async def scenario() -> int | None:
        async with asyncio.timeout(20), ready_app(settings) as app:
            caller = Caller(app, "/generate", LONG | {"stream": stream})
            if stream:
                assert (await caller.chunks.get()).startswith(b"event: text\n")
            while len(passes) < 3:
                await asyncio.sleep(0.01)
            caller.leave()
            await caller.call
            assert await settled(passes) < 100
            return caller.status

    assert asyncio.run(scenario()) == (200 if stream else 499)


def test_a_waiting_request_whose_client_goes_is_never_begun(settings: Settings, passes):
    one_by_one = settings.model_copy(update={"running_items": 1})

    async def scenario() -> None:
        async with asyncio.timeout(20), ready_app(one_by_one) as app:
            first = Caller(app, "/generate", {"text": "we", "max_tokens": 20, "stop": []})
            while not passes:
                await asyncio.sleep(0.005)
            waiting = Caller(app, "/generate", LONG | {"n": 7})
            last = Caller(app, "/generate", {"text": "you", "max_tokens": 2, "n": 5})
            await asyncio.sleep(0.02)
            waiting.leave()
            await asyncio.gather(first.call, waiting.call, last.call)
            assert (first.status, waiting.status, last.status) == (200, 499, 200)

    asyncio.run(scenario())
    assert 7 not in passes
    assert 5 in passes


def test_health_answers_while_a_model_is_busy(settings: Settings, passes):
    async def scenario() -> None:
        async with asyncio.timeout(20), ready_app(settings) as app:
            busy = Caller(app, "/generate", LONG)
            while not passes:
                await asyncio.sleep(0.005)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                started = time.perf_counter()
                assert (await client.get("/health")).json() == {"status": "ok"}
                assert time.perf_counter() - started < 0.5
            assert not busy.call.done()
            busy.leave()
            await busy.call

    asyncio.run(scenario())
