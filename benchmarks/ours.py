"""Our side of the measurements of inference: networks of random weights, run on command."""

import importlib
import time
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from benchmarks import sizes
from benchmarks.commands import answer_commands
from benchmarks.vocabulary import sentences, words
from models.backends import Backend
from models.forward import Forward, run, run_all
from models.generate import generate
from models.language_model import LanguageModel
from models.networks import Network, State, build_network, network_config
from models.score import score_all
from models.tokenizers import Tokenizer, train_tokenizer

CHUNK = 256  # tokens of a pass that only reads


def random_network(values: dict[str, Any]) -> Network:
    """Return a network of random weights, ready to be run."""
    torch.manual_seed(0)
    return build_network(network_config(values)).eval().requires_grad_(False)


@cache
def word_tokenizer() -> Tokenizer:
    """Return a tokenizer of the made-up words; ``<unk>`` and the end of sentence are two more."""
    return train_tokenizer("word", [" ".join(words(sizes.WORDS + 1))], vocab_size=sizes.VOCABULARY)


@cache
def language_model(kind: str, backend: str) -> LanguageModel:
    """Return a model of the sizes in `benchmarks.sizes`.

    Args:
        kind: ``transformer`` or ``lstm``.
        backend: ``torch`` or ``native``.
    """
    tokenizer = word_tokenizer()
    ids = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    network = random_network({"transformer": sizes.TRANSFORMER, "lstm": sizes.LSTM}[kind] | ids)
    network.output_bias[tokenizer.eos_id] = -100.0  # continuations of the full length
    faster: Backend | None = None
    if backend == "native":
        native = importlib.import_module("models.native")
        if not hasattr(native, "NativeBackend") or not native.available():
            raise ImportError("models.native is not built here")
        faster = native.NativeBackend(network, 1.0, threads=torch.get_num_threads())
    model = LanguageModel(kind, network, tokenizer, backend=faster)  # type: ignore[arg-type]
    return model


def precision(kind: str, backend: str) -> str:
    """Return what the large matrices are multiplied in."""
    return language_model(kind, backend).backend.precision


@cache
def _states(kind: str, backend: str, batch: int, length: int) -> list[State]:
    """Return the states behind texts of so many tokens."""
    model = language_model(kind, backend)
    draw = np.random.default_rng(0)
    texts = draw.integers(3, sizes.WORDS, (batch, length)).tolist()
    states: list[State | None] = [None] * batch
    for start in range(0, length, CHUNK):
        passes = model.compute(
            [
                Forward(text[start : start + CHUNK], state, "none")
                for text, state in zip(texts, states, strict=True)
            ]
        )
        states = [result.state for result in passes]
    return [state for state in states if state is not None]


def step(kind: str, backend: str, batch: int, cached: int, steps: int) -> float:
    """Return the seconds of one step: read a token of each text, take the most probable next.

    Args:
        kind: Of network.
        backend: That computes it.
        batch: Texts.
        cached: Positions read before a step, on average over the steps.
        steps: That are measured.
    """
    model = language_model(kind, backend)
    states: Sequence[State] = _states(kind, backend, batch, cached - steps // 2)
    tokens = [3] * batch
    began = time.perf_counter()
    for _ in range(steps):
        passes = model.compute(
            [Forward((token,), state) for token, state in zip(tokens, states, strict=True)]
        )
        tokens = [int(result.log_probs.numpy().argmax()) for result in passes]
        states = [result.state for result in passes]
    return (time.perf_counter() - began) / steps


def score(backend: str, whole: bool, calls: int) -> float:
    """Return scored tokens a second of the Transformer, so many calls of 32 sentences.

    Args:
        backend: That computes it.
        whole: From text to result, by the program of ``/score``; else the passes alone.
        calls: How many.
    """
    model = language_model("transformer", backend)
    texts = sentences(sizes.SENTENCES, seed=1)
    tokenizer = model.tokenizer
    encoded = [tokenizer.encode(text).token_ids for text in texts]
    forwards = [
        Forward([tokenizer.bos_id, *ids], None, "targets", [*ids, tokenizer.eos_id])
        for ids in encoded
    ]
    began = time.perf_counter()
    for _ in range(calls):
        if whole:
            run(score_all(model, texts), model)
        else:
            model.compute(forwards)
    seconds = time.perf_counter() - began
    return calls * sum(len(ids) + 1 for ids in encoded) / seconds


def continuations(backend: str) -> float:
    """Return generated tokens a second, several continuations side by side."""
    model = language_model("transformer", backend)
    texts = sentences(sizes.SEQUENCES, seed=2, fewest=8, most=8)
    began = time.perf_counter()
    results = run_all([generate(model, text, max_tokens=sizes.GENERATED) for text in texts], model)
    seconds = time.perf_counter() - began
    tokens = sum(result.completion_tokens for result in results)
    if tokens != sizes.SEQUENCES * sizes.GENERATED:
        raise RuntimeError(f"{tokens} tokens were generated")
    return tokens / seconds


if __name__ == "__main__":
    answer_commands(
        {
            "precision": precision,
            "step": step,
            "score": partial(score, whole=True),
            "passes": partial(score, whole=False),
            "generate": continuations,
        }
    )
