"""What the engine reads once, and what it keeps of it."""

import pytest
import torch

from models.forward import Forward, run
from models.generate import generate
from tests.app.engine.helpers import engine_run
from tests.models.helpers import model_of


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
