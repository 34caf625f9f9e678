"""Models side by side: what each is worth on the same texts, how large it is, how fast."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from models.backends.choose import choose_backend
from models.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from models.forward import Forward
from models.language_model import LanguageModel
from training.card import format_metric
from training.evaluate import Evaluation
from training.metrics import definition_of_all

COLUMNS = {
    "perplexity_per_word": "perplexity per word",
    "bits_per_character": "bits per character",
    "recall_at_1": "recall@1",
    "recall_at_3": "recall@3",
    "keystroke_savings_3": "keystrokes saved",
    "next_word_calibration_error": "calibration error",
    "next_word_calibration_chance": "of it chance",
    "word_order_accuracy": "word order",
    "word_choice_accuracy": "word choice",
}
_STEPS, _CONTEXT = 200, 32  # steps timed, tokens read before them


@dataclass(frozen=True)
class Entry:
    """A model in the comparison.

    Attributes:
        name: Of the checkpoint, or of the n-gram model.
        kind: ``lstm``, ``transformer``, …, ``5-gram``.
        megabytes: On disk: weights, configuration and tokenizer.
        milliseconds: To read one token and predict the next, alone on one thread; None untimed.
        evaluations: On each file.
    """

    name: str
    kind: str
    megabytes: float
    milliseconds: float | None
    evaluations: Sequence[Evaluation]


def checkpoint_megabytes(folder: Path) -> float:
    """Return what a checkpoint needs on disk, without card and pictures."""
    return sum((folder / name).stat().st_size for name in (WEIGHTS, CONFIG, TOKENIZER)) / 1e6


def step_milliseconds(model: LanguageModel) -> float:
    """Return the median time of a step, computed as the service computes it, on one thread."""
    threads = torch.get_num_threads()
    model = choose_backend(model, "auto", threads=1)
    try:
        (read,) = model.compute([Forward([model.tokenizer.bos_id] * _CONTEXT)])
        times = []
        for _ in range(_STEPS):
            began = time.perf_counter()
            model.compute([Forward([model.tokenizer.eos_id], read.state)])
            times.append(1000 * (time.perf_counter() - began))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times)


def rows(entries: Sequence[Entry], file: int) -> list[list[str]]:
    """Return the heading and a row a model, on the so-many-th file."""
    found = [["", *COLUMNS.values(), "MB", "ms a step"]]
    for entry in entries:
        metrics = entry.evaluations[file].metrics
        values = [
            format_metric(n, metrics[n].to_values()) if n in metrics else "–" for n in COLUMNS
        ]
        speed = "–" if entry.milliseconds is None else f"{entry.milliseconds:.2f}"
        found.append([f"{entry.name} ({entry.kind})", *values, f"{entry.megabytes:.1f}", speed])
    return found


def markdown(entries: Sequence[Entry]) -> str:
    """Return a table a file, and what the figures mean, in Markdown."""
    parts = []
    for file, evaluation in enumerate(entries[0].evaluations):
        head, *body = rows(entries, file)
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        remarks = [f"Read: {evaluation.text['read']}."]
        for entry in entries:
            if remark := entry.evaluations[file].text.get("unknown_words"):
                remarks.append(f"{entry.name}: {remark}.")
        parts.append(f"### `{evaluation.data}`\n\n{' '.join(remarks)}\n\n{table}")
    told = []
    for name, title in COLUMNS.items():
        measured = [e for entry in entries for e in entry.evaluations if name in e.metrics]
        if measured:
            meaning = definition_of_all((e.data, e.metrics[name].definition) for e in measured)
            told.append(f"- **{title}**: {meaning}.")
    told.append("- **MB**: weights, configuration and tokenizer; of an n-gram model its ARPA file.")
    told.append("- **ms a step**: to read a token and predict the next, median, one thread.")
    return "\n\n".join([*parts, "What the figures mean:", "\n".join(told)]) + "\n"
