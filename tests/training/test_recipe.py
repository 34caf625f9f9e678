import json

import pytest

from training.recipe import Recipe, load_recipe
from training.train import _check_run

NETWORK = {"kind": "lstm", "embedding_size": 8, "hidden_size": 8, "num_layers": 1}


@pytest.mark.parametrize(
    "name",
    [
        *(f"everyday-{kind}" for kind in ("gru", "lstm", "rnn", "transformer")),
        *(f"wikitext2-{kind}" for kind in ("lstm", "transformer")),
    ],
)
def test_recipes_that_ship_load_and_round_trip(name):
    recipe = load_recipe(name)
    assert Recipe.from_values(recipe.to_values()) == recipe


def test_overrides_are_toml_values_or_bare_words():
    recipe = load_recipe(
        "everyday-lstm",
        [
            "training.epochs=0.5",
            "training.precision=float32",
            "network.tied=false",
            "training.seed=7",
        ],
    )
    assert recipe.training.epochs == 0.5
    assert recipe.training.precision == "float32"
    assert recipe.network["tied"] is False
    assert recipe.training.seed == 7


@pytest.mark.parametrize(
    ("table", "setting", "value"),
    [
        ("training", "epochs", 0),
        ("training", "epochs", float("inf")),
        ("training", "batch_size", -3),
        ("training", "batch_size", 2.5),
        ("training", "state_reset", 1.0),
        ("training", "precision", "float16"),
        ("training", "validate_tokens", -1),
        ("training", "seed", True),
        ("training", "repeats", 2),
        ("training", "softmax_samples", -1),
        ("training", "sampled_share", 1.5),
        ("optimizer", "schedule", "cosine"),
        ("optimizer", "beta1_at_peak", 1.0),
        ("optimizer", "beta1_at_peak", "low"),
        ("optimizer", "average_from", -0.5),
        ("regularization", "hidden_dropout", 1.0),
        ("optimizer", "muon", 1),
        ("optimizer", "momentum", 1.0),
        ("optimizer", "learning_rate", 0.0),
        ("optimizer", "learning_rate", "fast"),
        ("optimizer", "learning_rate", float("nan")),
        ("optimizer", "beta2", 1.0),
        ("optimizer", "decay_share", 1.5),
        ("optimizer", "warmup_steps", -1),
        ("tokenizer", "kind", "letters"),
        ("tokenizer", "vocab_size", 256),
        ("network", "dropout", 1.5),
        ("network", "num_layers", 0),
        ("network", "tied", "yes"),
        ("network", "kind", "mamba"),
    ],
)
def test_a_wrong_value_is_named_with_its_setting(table, setting, value):
    values = {"network": NETWORK}
    values[table] = {**values.get(table, {}), setting: value}
    with pytest.raises(ValueError, match=setting) as error:
        Recipe.from_values(values)
    assert repr(value) in str(error.value)
    assert table in str(error.value)


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "twice"])
def test_a_source_is_read_a_whole_number_of_times(times):
    with pytest.raises(ValueError, match=r"training\.repeats of notes .* not") as error:
        Recipe.from_values({"network": NETWORK, "training": {"repeats": {"notes": times}}})
    assert repr(times) in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimiser": {}}, "no \\[optimiser\\]"),
        ({"training": {"epoch": 1}}, "no setting 'epoch'; it has epochs"),
        ({"network": {**NETWORK, "heads": 2}}, "no field 'heads'"),
        ({"network": {**NETWORK, "vocab_size": 10}}, "vocab_size comes from the tokenizer"),
        ({"network": {"kind": "lstm"}}, "missing"),
        ({"training": 3}, "training must be a table"),
        ({}, "network kind"),
    ],
)
def test_what_a_recipe_does_not_have_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_values({"network": NETWORK} | values if values else {})


@pytest.mark.parametrize("override", ["epochs=3", "training.epochs", "=", "training"])
def test_an_override_needs_section_name_and_value(override):
    with pytest.raises(ValueError, match=r"section\.name=value"):
        load_recipe("everyday-lstm", [override])


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(
        ValueError, match="everyday-gru, everyday-lstm, everyday-rnn, everyday-transformer, w"
    ):
        load_recipe("everyday")


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training\n")
    with pytest.raises(ValueError, match=r"mine\.toml"):
        load_recipe(str(path))


def test_a_run_begun_before_a_setting_was_there_goes_on(tmp_path):
    recipe = Recipe.from_values({"network": NETWORK})
    values = recipe.to_values()
    del values["regularization"], values["optimizer"]["schedule"]
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    _check_run(recipe, tmp_path, resume=True)
    other = Recipe.from_values({"network": NETWORK, "regularization": {"weight_drop": 0.5}})
    with pytest.raises(ValueError, match=r"regularization\.weight_drop = 0\.0, not 0\.5"):
        _check_run(other, tmp_path, resume=True)
