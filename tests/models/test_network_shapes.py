"""The shapes that a configuration foretells are those of the network it builds."""

import pytest

from models.networks import build_network, network_config
from tests.models.helpers import KINDS

SIZES = {"vocab_size": 11, "num_ids": 12, "embedding_size": 8, "num_layers": 3}
OWN = {
    "transformer": {"num_heads": 2, "feedforward_size": 20, "context_length": 6},
    "recurrent": {"hidden_size": 10},
    "square": {"hidden_size": 8},
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (kind, own)
        for kind in KINDS
        for own in OWN
        if (kind == "transformer") == (own == "transformer")
    ],
)
def test_foretold_shapes_are_those_built(kind, own, tied):
    config = network_config({"kind": kind, "tied": tied, **SIZES, **OWN[own]})
    built = {name: tuple(w.shape) for name, w in build_network(config).state_dict().items()}
    assert dict(config.shapes()) == built
