"""What int8 costs in quality: the same checkpoint in int8 and in float32, on the same text.

::

    python -m benchmarks.precision checkpoints/everyday-lstm --data dialogue/valid.txt

Perplexity is per token, over all tokens of the lines and one end of sentence a line, each line
alone. Suggestions are the three most probable next words (`models.next_word`, words only) behind a
random word of a random line; "the same" is the same three words, and "in the same order" that too.
The gate is a perplexity within 0.5% and the same suggestions at 98% of the positions; the exit
status tells whether it holds.
"""

import argparse
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from app.threads import available_threads
from models.backends.choose import choose_backend
from models.checkpoint import load_checkpoint
from models.forward import run, run_all
from models.language_model import LanguageModel
from models.next_word import next_word
from models.score import score_all

MOST_CHANGE, LEAST_SAME = 0.005, 0.98
_TOGETHER = 64  # lines or positions

console = Console(width=None if sys.stdout.isatty() else 120)


def perplexity(model: LanguageModel, lines: Sequence[str]) -> float:
    """Return the perplexity per token of ``lines``, ends of sentences counted."""
    total, count = 0.0, 0
    for start in track(range(0, len(lines), _TOGETHER), model.backend.precision, console=console):
        for score in run(score_all(model, lines[start : start + _TOGETHER]), model):
            total += score.log_prob or 0.0
            count += score.scored_tokens
    return math.exp(-total / count)


def suggestions(model: LanguageModel, contexts: Sequence[str]) -> list[list[str]]:
    """Return the three most probable next words behind each context."""
    found = []
    for start in track(
        range(0, len(contexts), _TOGETHER), model.backend.precision, console=console
    ):
        programs = [next_word(model, c, top_k=3) for c in contexts[start : start + _TOGETHER]]
        answers = run_all(programs, model)
        found += [[prediction.word for prediction in a.predictions] for a in answers]
    return found


def main() -> None:
    """Compare, print a table, and exit with 1 where the gate does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="+")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="text, a line a sentence"
    )
    parser.add_argument("--positions", type=int, default=2000, help="of suggestions, a file")
    parser.add_argument(
        "--lines", type=int, default=2000, help="first lines for perplexity, a file"
    )
    arguments = parser.parse_args()
    table = Table("float32", "int8", "change", "same three", "same order")
    table.columns[:0] = [Column(name, no_wrap=True) for name in ("checkpoint", "data")]
    holds = True
    for folder in arguments.checkpoint:
        loaded = load_checkpoint(folder)
        threads = available_threads()
        exact, quick = (choose_backend(loaded, p, threads=threads) for p in ("float32", "int8"))
        for path in arguments.data:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            draw = random.Random(1)
            contexts = []
            for _ in range(arguments.positions):
                words = draw.choice(lines).split()
                contexts.append(" ".join(words[: draw.randrange(len(words))]))
            before, after = (
                perplexity(model, lines[: arguments.lines]) for model in (exact, quick)
            )
            pairs = list(
                zip(suggestions(exact, contexts), suggestions(quick, contexts), strict=True)
            )
            same = sum(set(a) == set(b) for a, b in pairs) / len(pairs)
            ordered = sum(a == b for a, b in pairs) / len(pairs)
            change = after / before - 1
            holds &= abs(change) <= MOST_CHANGE and same >= LEAST_SAME
            figures = (
                f"{before:.3f}",
                f"{after:.3f}",
                f"{change:+.3%}",
                f"{same:.2%}",
                f"{ordered:.2%}",
            )
            table.add_row(folder.name, "/".join(path.parts[-2:]), *figures)
    console.print(table)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
