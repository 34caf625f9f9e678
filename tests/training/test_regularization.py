from itertools import pairwise

import numpy as np
import pytest
import torch

from models.networks import DropoutRates, build_network, network_config
from tests.training.conftest import tiny_recipe
from training.activation import activation_penalty
from training.dataset import Dataset
from training.recipe import Recipe
from training.regularization import RegularizationSettings
from training.trainer import Trainer

VOCAB = 60


def test_rates_are_the_networks_own_but_where_they_are_set():
    default = DropoutRates(input=0.5, hidden=0.5, output=0.5)
    assert RegularizationSettings().rates(default) == default
    settings = RegularizationSettings(
        word_dropout=0.1, input_dropout=0.0, output_dropout=0.2, weight_drop=0.3
    )
    assert settings.rates(default) == DropoutRates(
        words=0.1, input=0.0, hidden=0.5, output=0.2, weights=0.3
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("weight_drop", 1.0), ("input_dropout", -0.1), ("activation", -1.0), ("word_dropout", "much")],
)
def test_a_wrong_rate_is_named(setting, value):
    network = {"kind": "lstm", "embedding_size": 8, "hidden_size": 8, "num_layers": 1}
    with pytest.raises(ValueError, match=rf"regularization\.{setting}"):
        Recipe.from_values({"network": network, "regularization": {setting: value}})


def test_penalties_are_the_papers_sums():
    features = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    squares, changes = [], []
    for row in features.tolist():
        squares += [u * u for step in row for u in step]
        for before, after in pairwise(row):
            changes += [(b - a) ** 2 for a, b in zip(before, after, strict=True)]
    expected = 2 * sum(squares) / len(squares) + 3 * sum(changes) / len(changes)
    assert float(activation_penalty(features, 2.0, 3.0)) == pytest.approx(expected, rel=1e-5)
    assert activation_penalty(features, 0.0, 0.0) == 0.0
    assert activation_penalty(features[:, :1], 0.0, 3.0) == 0.0


def _trainer(folder, kind: str, **regularization) -> Trainer:
    tokens = np.random.default_rng(0).integers(VOCAB, size=4000).astype(np.uint16)
    dataset = Dataset(tokens, np.array([0, 4000]), VOCAB, eos_id=0)
    values = tiny_recipe(kind, dropout=0.0).to_values() | {"regularization": regularization}
    recipe = Recipe.from_values(values)
    torch.manual_seed(1)
    sizes = {"vocab_size": VOCAB, "num_ids": VOCAB + 1}
    network = build_network(network_config({**recipe.network, **sizes}))
    return Trainer(network, recipe, dataset, {"same": dataset}, folder)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_penalties_shrink_features_and_their_changes(tmp_path, kind):
    sizes = []
    for weights in ({}, {"activation": 50.0, "temporal_activation": 50.0}):
        trainer = _trainer(tmp_path, kind, **weights)
        reported = [trainer.train_step() for _ in range(12)]
        # What is reported stays the cross-entropy: of random words, the logarithm of their number.
        assert reported[-1] == pytest.approx(np.log(VOCAB), abs=0.3)
        features, _ = trainer.network.features(torch.arange(VOCAB)[None])
        sizes.append(float(features.detach().square().mean()))
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_all_together_train_and_leave_no_trace_in_what_is_measured(tmp_path, kind):
    place = "attention_dropout" if kind == "transformer" else "weight_drop"
    trainer = _trainer(tmp_path, kind, word_dropout=0.2, output_dropout=0.3, **{place: 0.4})
    losses = trainer.losses()
    assert losses == trainer.losses()
    trainer.train_step()
    assert trainer.network.rates.words == 0.2
    assert trainer.losses() != losses
