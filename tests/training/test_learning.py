"""Training finds what there is to find: a grammar's entropy, known exactly."""

import math

import pytest
from rich.console import Console

from models.checkpoint import load_checkpoint
from tests.training.conftest import tiny_recipe
from training.evaluate import evaluate
from training.recipe import Recipe
from training.train import Corpus, train


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_grammar_is_learnt_to_its_entropy_and_no_further(tmp_path, grammar, corpus, kind):
    values = tiny_recipe(kind, dropout=0.0, epochs=6, validate_every=300).to_values()
    sizes = {
        "lstm": {"embedding_size": 64, "hidden_size": 64},
        "transformer": {"embedding_size": 32},
    }
    values["network"] |= sizes[kind]
    values["optimizer"] |= {"learning_rate": 0.02, "weight_decay": 0.01, "average_decay": 0.98}
    files = Corpus([corpus[0]], [corpus[1]])
    train(
        Recipe.from_values(values),
        files,
        out=tmp_path / "out",
        run=tmp_path / "run",
        console=Console(quiet=True),
    )
    model = load_checkpoint(tmp_path / "out")
    found = evaluate(model, corpus[1], sample=0).metrics["perplexity_per_token"]
    lines = grammar.lines(300, seed=2)
    tokens = sum(len(line) + 1 for line in lines)
    assert found.count == tokens
    best = sum(map(grammar.nats, lines)) / tokens
    surplus = math.log(found.value) - best
    assert -0.002 < surplus < 0.035
