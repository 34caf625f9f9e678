"""Networks of one signature, whatever their kind.

``forward(token_ids (B, T), state | None) -> logits (B, T, V), state``
"""

from models.networks.base import BatchState, Network, State
from models.networks.build import NetworkConfig, build_network, network_config
from models.networks.dropout import DropoutRates
from models.networks.recurrent import RecurrentConfig, RecurrentNetwork, RecurrentState
from models.networks.transformer import Transformer, TransformerConfig, TransformerState

__all__ = [
    "BatchState",
    "DropoutRates",
    "Network",
    "NetworkConfig",
    "RecurrentConfig",
    "RecurrentNetwork",
    "RecurrentState",
    "State",
    "Transformer",
    "TransformerConfig",
    "TransformerState",
    "build_network",
    "network_config",
]
