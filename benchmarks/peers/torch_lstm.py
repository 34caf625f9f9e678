"""Torch as it comes: nn.LSTM and a linear layer in float32, eager."""

import time
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks import sizes
from benchmarks.commands import answer_commands


class Model(nn.Module):
    """Embedding, LSTM and an output layer that shares the embedding's weights."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        width = sizes.LSTM_WIDTH
        self.embedding = nn.Embedding(sizes.VOCABULARY, width)
        self.layers = nn.LSTM(width, width, sizes.LSTM_LAYERS)
        self.output = nn.Linear(width, sizes.VOCABULARY)
        self.output.weight = self.embedding.weight

    def forward(
        self, token_ids: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return log-probabilities (T, B, V) and the state."""
        x, state = self.layers(self.embedding(token_ids), state)
        return torch.log_softmax(self.output(x), dim=-1), state


@cache
def _model() -> Model:
    torch.manual_seed(0)
    return Model().eval().requires_grad_(False)


@torch.inference_mode()
def step(steps: int) -> float:
    """Return the seconds of one step at batch 1."""
    model, state, token_ids = _model(), None, torch.full((1, 1), 3)
    began = time.perf_counter()
    for _ in range(steps):
        log_probs, state = model(token_ids, state)
        token_ids = log_probs.argmax(-1)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    answer_commands({"step": step})
