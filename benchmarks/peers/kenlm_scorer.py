"""KenLM: sentences scored by a 5-gram model.

Its builder is not part of its Python package, so the model is counted here. Its probabilities are
poor (no smoothing but a constant back-off) and its file is valid: for speed nothing else matters.
"""

import math
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import kenlm

from benchmarks import sizes
from benchmarks.commands import answer_commands
from benchmarks.vocabulary import sentences, words

ORDER = 5
BACK_OFF = math.log10(0.4)
LINES = 5000  # sentences that are counted


def _save(path: Path) -> None:
    """Count n-grams of made-up sentences and write them as ARPA."""
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(ORDER + 1)]
    for line in sentences(LINES, seed=3):
        text = ("<s>", *line.split(), "</s>")
        for n in range(1, ORDER + 1):
            counts[n].update(text[i : i + n] for i in range(len(text) - n + 1))
    counts[1].update((word,) for word in (*sizes.SPECIAL, *words()))
    total = counts[1].total()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={len(counts[n])}\n" for n in range(1, ORDER + 1))
        for n in range(1, ORDER + 1):
            file.write(f"\n\\{n}-grams:\n")
            for gram, count in counts[n].items():
                before = counts[n - 1][gram[:-1]] if n > 1 else total
                log_prob = math.log10(0.6 * count / before)
                line = f"{log_prob:.5f}\t{' '.join(gram)}"
                file.write(line + (f"\t{BACK_OFF:.5f}\n" if n < ORDER else "\n"))
        file.write("\n\\end\\\n")


@cache
def _model(path: str) -> Any:
    if not Path(path).exists():
        _save(Path(path))
    return kenlm.Model(path)


def score(path: str, calls: int) -> float:
    """Return scored tokens a second, so many times 32 sentences, ends of sentences included."""
    model = _model(path)
    texts = sentences(sizes.SENTENCES, seed=1)
    tokens = sum(len(text.split()) + 1 for text in texts)
    began = time.perf_counter()
    for _ in range(calls):
        for text in texts:
            model.score(text, bos=True, eos=True)
    return calls * tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    answer_commands({"score": score})
