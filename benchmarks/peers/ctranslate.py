"""CTranslate2: GPT-2 in int8.

On a processor of AMD its default product (oneDNN) is its fastest by far, so nothing is forced.
It has two ways to spend cores on a batch, and can cut a batch up. Commands take them as

- ``workers``: parts of a batch that are computed at the same time;
- ``threads``: of a worker;
- ``at_once``: the most texts of a part, or 0 for no bound.
"""

import time
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2

from benchmarks import sizes
from benchmarks.commands import answer_commands
from benchmarks.peers.gpt2 import save_gpt2
from benchmarks.vocabulary import sentences

BOS, EOS = "<s>", "</s>"
NEVER = "<unk>"  # given as the end of text; that no text ended there is checked


@cache
def _generator(folder: str, workers: int, threads: int) -> Any:
    converted = Path(folder).with_name(Path(folder).name + "-int8")
    if not (converted / "model.bin").exists():
        save_gpt2(folder)
        converter = ctranslate2.converters.TransformersConverter(folder)
        converter.convert(str(converted), quantization="int8", force=True)
    return ctranslate2.Generator(
        str(converted),
        device="cpu",
        compute_type="int8",
        inter_threads=workers,
        intra_threads=threads,
    )


def _generate(generator: Any, prompts: list[list[str]], tokens: int, at_once: int) -> float:
    """Return the seconds of greedy continuations of exactly this length."""
    began = time.perf_counter()
    results = generator.generate_batch(
        prompts,
        max_batch_size=at_once,
        beam_size=1,
        sampling_topk=1,
        max_length=tokens,
        end_token=NEVER,
        include_prompt_in_result=False,
    )
    seconds = time.perf_counter() - began
    lengths = {len(result.sequences_ids[0]) for result in results}
    if lengths != {tokens}:
        raise RuntimeError(f"continuations of {lengths} tokens instead of {tokens}")
    return seconds


def step(
    folder: str, workers: int, threads: int, at_once: int, batch: int, cached: int, steps: int
) -> float:
    """Return the seconds of one step more.

    The difference between two runs that differ in nothing but ``steps``: so prompt, call and
    Python cost nothing. Only the chosen token comes back, as in its cheapest use; scores would
    cost it a softmax.
    """
    generator = _generator(folder, workers, threads)
    length = cached - steps // 2
    prompts = [[BOS, *text.split()][:length] for text in _texts(batch, length)]
    few = _generate(generator, prompts, 1, at_once)
    return (_generate(generator, prompts, 1 + steps, at_once) - few) / steps


@cache
def _texts(count: int, length: int) -> list[str]:
    return sentences(count, seed=0, fewest=length, most=length)


def score(folder: str, workers: int, threads: int, at_once: int, calls: int) -> float:
    """Return scored tokens a second, so many calls of 32 sentences that are split into words."""
    generator = _generator(folder, workers, threads)
    texts = [[BOS, *text.split(), EOS] for text in sentences(sizes.SENTENCES, seed=1)]
    began = time.perf_counter()
    for _ in range(calls):
        generator.score_batch(texts, max_batch_size=at_once)
    seconds = time.perf_counter() - began
    return calls * sum(len(text) - 1 for text in texts) / seconds


def generate(folder: str, workers: int, threads: int, at_once: int) -> float:
    """Return generated tokens a second, all continuations in one call."""
    generator = _generator(folder, workers, threads)
    texts = sentences(sizes.SEQUENCES, seed=2, fewest=8, most=8)
    prompts = [[BOS, *text.split()] for text in texts]
    seconds = _generate(generator, prompts, sizes.GENERATED, at_once)
    return sizes.SEQUENCES * sizes.GENERATED / seconds


if __name__ == "__main__":
    answer_commands({"step": step, "score": score, "generate": generate})
