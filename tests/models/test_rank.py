"""Alternatives in order: totals by their definition, and probabilities that add up."""

import math

import pytest

from models.errors import InvalidRequestError
from models.forward import run
from models.rank import rank
from models.score import score
from tests.models.helpers import model_of

TEXTS = ["the cat sees a room", "a cat the room sees", "the cat", "", "Anna, the dog."]


@pytest.fixture(scope="module")
def model():
    return model_of("gru")


@pytest.mark.parametrize("context", ["", "a dog\n"])
@pytest.mark.parametrize("normalize", ["none", "tokens", "characters"])
@pytest.mark.parametrize(("lm_weight", "length_bonus"), [(1, 0), (0.3, 2.0), (-1, 0.5), (0, 0)])
@pytest.mark.parametrize("scores", [None, [3.0, -1.0, 0.5, 0.0, 9.0]])
def test_totals_are_those_of_the_definition(
    model, context, normalize, lm_weight, length_bonus, scores
):
    totals = []
    for i, text in enumerate(TEXTS):
        result = run(score(model, text, context=context), model)
        lengths = {"none": 1, "tokens": result.scored_tokens, "characters": max(1, len(text))}
        words = len(model.tokenizer.encode(text).words)
        totals.append(
            (scores[i] if scores else 0)
            + lm_weight * result.log_prob / lengths[normalize]
            + length_bonus * words
        )
    ranked = run(
        rank(
            model,
            TEXTS,
            scores=scores,
            context=context,
            lm_weight=lm_weight,
            length_bonus=length_bonus,
            normalize=normalize,
        ),
        model,
    )
    assert sorted(r.index for r in ranked) == list(range(len(TEXTS)))
    assert [r.total for r in ranked] == sorted((r.total for r in ranked), reverse=True)
    weights = [math.exp(total - max(totals)) for total in totals]
    for r in ranked:
        assert r.text == TEXTS[r.index]
        assert r.total == pytest.approx(totals[r.index], rel=1e-4, abs=1e-4)
        assert r.probability == pytest.approx(weights[r.index] / sum(weights), rel=1e-2, abs=1e-9)
    assert sum(r.probability for r in ranked) == pytest.approx(1)


def test_equals_keep_their_order(model):
    ranked = run(rank(model, ["the cat", "a dog", "the cat", "the cat"], lm_weight=0), model)
    assert [r.index for r in ranked] == [0, 1, 2, 3]
    assert {r.probability for r in ranked} == {0.25}
    same = run(rank(model, ["the cat", "Anna", "the cat"]), model)
    assert [r.index for r in same if r.text == "the cat"] == [0, 2]


def test_one_alternative_is_certain(model):
    (only,) = run(rank(model, ["the cat"]), model)
    assert only.probability == 1


@pytest.mark.parametrize("scores", [[1e300, -1e300], [700.0, -700.0], [-1e308, -1e308]])
def test_extreme_scores_do_not_overflow(model, scores):
    ranked = run(rank(model, ["the cat", "a dog"], scores=scores, lm_weight=1e10), model)
    assert sum(r.probability for r in ranked) == pytest.approx(1)
    assert all(math.isfinite(r.total) for r in ranked)


def test_a_long_list_of_long_sentences(model):
    texts = [f"{'the cat sees ' * 100}{i}" for i in range(30)]
    ranked = run(rank(model, texts), model)
    assert sum(r.probability for r in ranked) == pytest.approx(1)


@pytest.mark.parametrize(
    ("texts", "arguments", "field"),
    [
        ([], {}, "candidates"),
        (["a", "b"], {"scores": [1.0]}, "scores"),
        (["a", "b"], {"scores": [1.0, math.nan]}, "scores"),
        (["a", "b"], {"scores": [math.inf, 1.0]}, "scores"),
        (["a", "b"], {"lm_weight": 1e308}, "lm_weight"),
    ],
)
def test_what_has_no_order_is_refused(model, texts, arguments, field):
    with pytest.raises(InvalidRequestError) as refused:
        run(rank(model, texts, **arguments), model)
    assert refused.value.field == field
