"""A network, its tokenizer and its calibration: what a checkpoint holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from models.forward import Forward, Pass
from models.networks import Network, State
from models.tokenizers import Tokenizer


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
    """

    name: str
    network: Network
    tokenizer: Tokenizer
    temperature: float = 1.0
    checksum: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        """Number of weights, shared ones counted once."""
        return sum(p.numel() for p in self.network.parameters())

    @torch.inference_mode()
    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        """Run passes together: those that read equally many tokens share a batch."""
        groups: dict[int, list[int]] = {}
        for i, forward in enumerate(forwards):
            groups.setdefault(len(forward.token_ids), []).append(i)
        passes: dict[int, Pass] = {}
        for members in groups.values():
            batch = self._compute_batch([forwards[i] for i in members])
            passes.update(zip(members, batch, strict=True))
        return [passes[i] for i in range(len(forwards))]

    def _compute_batch(self, forwards: Sequence[Forward]) -> list[Pass]:
        device = self.network.embedding.weight.device
        token_ids = torch.tensor([list(f.token_ids) for f in forwards], device=device)  # (B, T)
        features, state = self.network.features(token_ids, self._stack(forwards))  # (B, T, E)
        states = [state] if len(forwards) == 1 else state.split()
        rows = []  # the features whose logits are wanted, (0, 1 or T, E) each
        for feature, forward in zip(features, forwards, strict=True):
            rows.append(
                feature[{"none": slice(0), "last": slice(-1, None)}.get(forward.want) or ...]
            )
        log_probs = torch.split(self._log_probs(torch.cat(rows)), [len(row) for row in rows])
        return [
            Pass(p[0] if forward.want == "last" else p, state)
            for p, state, forward in zip(log_probs, states, forwards, strict=True)
        ]

    def _stack(self, forwards: Sequence[Forward]) -> State | None:
        if all(f.state is None for f in forwards):
            return None
        initial = self.network.initial_state(1)
        states = [f.state or initial for f in forwards]
        return states[0] if len(states) == 1 else type(initial).stack(states)

    def _log_probs(self, features: torch.Tensor) -> torch.Tensor:
        """Return natural log-probabilities (N, V), float32, on the CPU."""
        logits = self.network.logits(features).float() / self.temperature
        return torch.log_softmax(logits, dim=-1).cpu()
