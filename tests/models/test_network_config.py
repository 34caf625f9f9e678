"""A network's configuration: what is wrong is said with the field and its value."""

import pytest

from models.networks import build_network, network_config

LSTM = {
    "kind": "lstm",
    "vocab_size": 5,
    "num_ids": 6,
    "embedding_size": 4,
    "hidden_size": 8,
    "num_layers": 1,
}
TRANSFORMER = {
    "kind": "transformer",
    "vocab_size": 5,
    "num_ids": 6,
    "embedding_size": 4,
    "num_layers": 1,
    "num_heads": 2,
    "feedforward_size": 8,
    "context_length": 4,
}


@pytest.mark.parametrize("values", [LSTM, TRANSFORMER, LSTM | {"kind": "gru", "dropout": 0}])
def test_a_sound_configuration_builds(values):
    config = network_config(values)
    assert {name: getattr(config, name) for name in values} == values
    assert build_network(config).config == config


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "mamba"}, "kind.*'mamba'"),
        ({"kind": None}, "kind.*None"),
        ({"kind": ["lstm"]}, "kind"),
        ({"vocab_size": 0}, "vocab_size.*0"),
        ({"num_ids": -3}, "num_ids.*-3"),
        ({"hidden_size": 2.5}, r"hidden_size.*2\.5"),
        ({"num_layers": True}, "num_layers.*True"),
        ({"num_layers": "2"}, "num_layers.*'2'"),
        ({"embedding_size": None}, "embedding_size.*None"),
        ({"hidden_size": 10**30}, "hidden_size.*1000"),
        ({"dropout": 1.0}, r"dropout.*1\.0"),
        ({"dropout": -0.1}, r"dropout.*-0\.1"),
        ({"dropout": float("nan")}, "dropout.*nan"),
        ({"dropout": "0.1"}, "dropout.*'0.1'"),
        ({"tied": 1}, "tied.*1"),
        ({"heads": 4}, "'heads'"),
        ({"num_heads": 4}, "'num_heads'"),
        ({"num_ids": 4}, "num_ids.*4.*vocab_size.*5"),
    ],
)
def test_what_is_wrong_is_named(changed, said):
    with pytest.raises(ValueError, match=said):
        network_config(LSTM | changed)


@pytest.mark.parametrize("values", [LSTM, TRANSFORMER])
def test_a_missing_field_is_named(values):
    for name in values:
        fewer = {key: value for key, value in values.items() if key != name}
        with pytest.raises(ValueError, match=name):
            network_config(fewer)


def test_a_transformer_has_its_own_fields():
    with pytest.raises(ValueError, match="'hidden_size'"):
        network_config(TRANSFORMER | {"hidden_size": 8})
    with pytest.raises(ValueError, match="embedding_size 6"):
        network_config(TRANSFORMER | {"embedding_size": 6})
