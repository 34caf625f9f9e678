"""How a network is computed: float32 in torch, or faster."""

from models.backends.base import Backend
from models.backends.torch import TorchBackend

__all__ = ["Backend", "TorchBackend"]
