"""A network, its tokenizer and its calibration: what a checkpoint holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from models.backends import Backend, TorchBackend
from models.forward import Forward, Pass
from models.networks import Network
from models.recall import Readers
from models.tokenizers import Tokenizer

_MOST_HISTORIES = 128  # that were given last: some megabytes even if all are long


@dataclass(frozen=True)
class LanguageModel:
    """Computes forward passes for any program.

    Attributes:
        name: How it is asked for.
        network: In evaluation mode.
        tokenizer: Between text and token ids.
        temperature: Divides all logits, so that probabilities match frequencies (Guo et al. 2017).
        checksum: SHA-256 of the weights' file, hexadecimal; empty for a model never saved.
        details: Corpus, recipe and metrics, as the checkpoint tells them.
        backend: Computes the network; torch in float32 unless another is given.
        remembered_readers: Returns the readers of a history, and keeps them in memory, for
            `models.recall`.
    """

    name: str
    network: Network
    tokenizer: Tokenizer
    temperature: float = 1.0
    checksum: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    backend: Backend = None  # type: ignore[assignment]  # set below
    remembered_readers: Callable[[str], Readers] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Choose the backend where none was given."""
        remembered = lru_cache(_MOST_HISTORIES)(partial(Readers, self.tokenizer))
        object.__setattr__(self, "remembered_readers", remembered)
        if self.backend is None:
            torch_backend = TorchBackend(self.network, self.temperature)
            object.__setattr__(self, "backend", torch_backend)

    @property
    def num_parameters(self) -> int:
        """Number of weights, shared ones counted once."""
        return sum(p.numel() for p in self.network.parameters())

    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        """Run passes together; each returns what it would return alone."""
        return self.backend.compute(forwards)
