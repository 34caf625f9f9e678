"""From a configuration to a network."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from models.networks.base import Network
from models.networks.recurrent import RecurrentConfig, RecurrentNetwork
from models.networks.transformer import Transformer, TransformerConfig

NetworkConfig = RecurrentConfig | TransformerConfig

_RECURRENT = ("rnn", "gru", "lstm")
_MOST = 2**31 - 1  # what an index of any tensor can count to


def network_config(values: Mapping[str, Any]) -> NetworkConfig:
    """Read a configuration from plain values, as JSON or TOML holds them.

    Raises:
        ValueError: An unknown kind, a missing or unknown field, or a value out of range.
    """
    kind = values.get("kind")
    if kind not in (*_RECURRENT, "transformer"):
        known = ", ".join((*_RECURRENT, "transformer"))
        raise ValueError(f"network kind must be one of {known}, not {kind!r}")
    cls = RecurrentConfig if kind in _RECURRENT else TransformerConfig
    known_fields = {field.name: field for field in fields(cls)}
    if unknown := sorted(set(values) - set(known_fields)):
        raise ValueError(f"network has no field {unknown[0]!r}; it has {', '.join(known_fields)}")
    for name, value in values.items():
        wanted = known_fields[name].type
        if wanted is int and not (type(value) is int and 1 <= value <= _MOST):
            raise ValueError(
                f"network.{name} must be a whole number from 1 to 2^31 - 1, not {value!r}"
            )
        if wanted is bool and not isinstance(value, bool):
            raise ValueError(f"network.{name} must be true or false, not {value!r}")
        if name == "dropout" and not (isinstance(value, int | float) and 0 <= value < 1):
            raise ValueError(f"network.dropout must be at least 0 and below 1, not {value!r}")
    try:
        config = cls(**values)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"network: {error}") from None
    if config.num_ids < config.vocab_size:
        raise ValueError(
            f"network.num_ids {config.num_ids} must be at least vocab_size {config.vocab_size}"
        )
    return config


def build_network(config: NetworkConfig) -> Network:
    """Return a network of these sizes with fresh weights."""
    if isinstance(config, TransformerConfig):
        return Transformer(config)
    return RecurrentNetwork(config)
