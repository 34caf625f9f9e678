"""Forward passes in torch: exact, on any device, and the oracle of every other backend."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from models.forward import Forward, Pass
from models.networks import BatchState, Network


class TorchBackend:
    """Runs a network as it was trained, in float32."""

    precision = "float32"

    def __init__(self, network: Network, temperature: float = 1.0) -> None:
        """Compute ``network``, whose logits are divided by ``temperature``."""
        self._network, self._temperature = network, temperature

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
        device = self._network.embedding.weight.device
        token_ids = torch.tensor([list(f.token_ids) for f in forwards], device=device)  # (B, T)
        features, state = self._network.features(token_ids, self._stack(forwards))  # (B, T, E)
        states = [state] if len(forwards) == 1 else state.split()
        parts = {"none": slice(0), "last": slice(-1, None)}
        rows = [  # the features whose logits are wanted, (0, 1 or T, E) each
            feature[parts.get(forward.want, slice(None))]
            for feature, forward in zip(features, forwards, strict=True)
        ]
        log_probs = torch.split(self._log_probs(torch.cat(rows)), [len(row) for row in rows])
        return [
            Pass(_wanted(forward, p), state)
            for p, state, forward in zip(log_probs, states, forwards, strict=True)
        ]

    def _stack(self, forwards: Sequence[Forward]) -> BatchState | None:
        if all(f.state is None for f in forwards):
            return None
        initial = self._network.initial_state(1)
        states = [cast(BatchState, f.state or initial) for f in forwards]  # this backend's own
        return states[0] if len(states) == 1 else type(initial).stack(states)

    def _log_probs(self, features: Tensor) -> Tensor:
        """Return natural log-probabilities (N, V), float32, on the CPU."""
        logits = self._network.logits(features).float() / self._temperature
        return torch.log_softmax(logits, dim=-1).cpu()


def _wanted(forward: Forward, log_probs: Tensor) -> Tensor:
    """Return what the pass asked for, of the log-probabilities (N, V) of its rows."""
    if forward.want == "last":
        return log_probs[0]
    if forward.want == "targets":
        return log_probs.gather(1, torch.tensor(forward.targets, dtype=torch.int64)[:, None])[:, 0]
    return log_probs
