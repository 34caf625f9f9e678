"""A seeded sample is the same text alone and in a busy batch, on the models that ship."""

import asyncio
from pathlib import Path

import pytest

from app.engine.engine import Engine
from app.engine.limits import Limits
from models.backends.choose import choose_backend
from models.checkpoint import load_checkpoint
from models.forward import run
from models.generate import generate
from models.score import score_all

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
REQUESTS, TOGETHER = 1000, 32
BEGINNINGS = ["I would like", "Can you", "", "My computer", "The"]


@pytest.mark.parametrize("name", ["everyday-lstm", "everyday-transformer"])
def test_a_thousand_samples_are_the_same_in_company(name):
    model = choose_backend(load_checkpoint(CHECKPOINTS / name), "int8", threads=2)

    def sample(seed):
        text = BEGINNINGS[seed % len(BEGINNINGS)]
        return generate(model, text, strategy="sample", seed=seed, max_tokens=5 + seed % 5)

    async def together():
        engine = Engine(Limits(cache_bytes=1 << 20))  # small, so that most is computed
        limit = asyncio.Semaphore(TOGETHER)
        line = "a long line that others score meanwhile " * 4

        async def ask(seed):
            async with limit:
                if seed % 10 == 0:
                    await engine.run(model, score_all(model, [line[seed % 30 :]]), client="other")
                return await engine.run(model, sample(seed), client=str(seed % 7))

        try:
            async with asyncio.timeout(120):
                return await asyncio.gather(*map(ask, range(REQUESTS)))
        finally:
            await engine.close()

    found = asyncio.run(together())
    for seed, generation in enumerate(found):
        assert generation == run(sample(seed), model)  # texts and log-probabilities, to the bit
