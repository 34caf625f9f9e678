"""Hugging Face transformers: GPT-2 in eager torch with a key-value cache, float32."""

import time
from functools import cache
from typing import Any

import torch
import transformers

from benchmarks import sizes
from benchmarks.commands import answer_commands
from benchmarks.peers.gpt2 import load_gpt2


@cache
def _model(folder: str) -> Any:
    return load_gpt2(folder, torch.get_num_threads())


@torch.inference_mode()
def step(folder: str, batch: int, cached: int, steps: int) -> float:
    """Return the seconds of one step, greedy, with the log-probabilities of all words."""
    model = _model(folder)
    torch.manual_seed(0)
    prompt = torch.randint(3, sizes.VOCABULARY, (batch, cached - steps // 2))
    past = model(prompt, use_cache=True, logits_to_keep=1).past_key_values
    tokens = prompt[:, -1:]
    began = time.perf_counter()
    for _ in range(steps):
        result = model(tokens, past_key_values=past, use_cache=True)
        past = result.past_key_values
        log_probs = torch.log_softmax(result.logits[:, -1], dim=-1)  # (B, V)
        tokens = log_probs.argmax(-1, keepdim=True)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    answer_commands({"step": step})
