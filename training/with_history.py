"""What a history is worth: lines scored alone, and with what stands before them in their document.

Every line is a question of its own, asked as the service answers it. For comparison it is also
scored with another document as history, which should cost little, and with the network's state
carried from line to line, which is what a program gets that sends the whole document as text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.forward import Forward, Program, run_all
from models.language_model import LanguageModel
from models.networks import State
from models.recall import recall
from models.score import score
from models.tokenizers import Tokenizer
from training.corpora import read_whole_documents
from training.metrics import Metric, sampled

_CHARACTERS = 16_384  # of a history: as many as the service takes
_TOGETHER = 32  # lines


@dataclass(frozen=True)
class Drawn:
    """Lines to score, in their documents.

    Attributes:
        documents: Lines of each.
        first: Lines of the first document that are history only.
        told: What was drawn, in words.
    """

    documents: list[list[str]]
    first: int
    told: str


def draw_documents(path: Path, *, lines: int, seed: int) -> list[list[str]]:
    """Return whole documents, drawn at random, until they have this many lines; the last is cut."""
    return _draw(list(read_whole_documents(path)), lines, seed)


def draw_lines(path: Path, *, lines: int, seed: int) -> Drawn:
    """Draw documents, as `draw_documents` does; of an only one, lines in a row.

    These begin at random; of what stands before them, a history's characters are kept.
    """
    documents = list(read_whole_documents(path))
    if len(documents) > 1:
        return Drawn(_draw(documents, lines, seed), 0, "lines of documents drawn at random")
    (document,) = documents
    if len(document) <= lines:
        return Drawn(documents, 0, "all lines of the only document")
    start = int(np.random.default_rng(seed).integers(len(document) - lines + 1))
    kept = "\n".join(document[:start])[-_CHARACTERS:]
    before = kept.split("\n") if start else []
    told = "lines in a row of the only document, from one drawn at random"
    return Drawn([[*before, *document[start : start + lines]]], len(before), told)


def _draw(documents: Sequence[list[str]], lines: int, seed: int) -> list[list[str]]:
    order = np.random.default_rng(seed).permutation(len(documents))
    drawn: list[list[str]] = []
    for i in order.tolist():
        if lines <= 0:
            break
        drawn.append(documents[i][:lines])
        lines -= len(documents[i])
    return drawn


def histories(documents: Sequence[Sequence[str]]) -> list[str]:
    """Return what stands before each line of each document, all lines in a row."""
    return [
        "\n".join(document[:line])[-_CHARACTERS:]
        for document in documents
        for line in range(len(document))
    ]


def other_histories(
    documents: Sequence[Sequence[str]], others: Sequence[Sequence[str]]
) -> list[str]:
    """Return another document for each line of ``documents``, by turns, from behind."""
    texts = ["\n".join(other)[-_CHARACTERS:] for other in others]
    return [texts[(i + 1) % len(texts)] for i, document in enumerate(documents) for _ in document]


def history_metrics(
    model: LanguageModel,
    path: Path,
    *,
    lines: int,
    seed: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> dict[str, Metric]:
    """Measure perplexity per word with and without histories.

    Args:
        model: Who is asked.
        path: A text file in one of the formats of `training.corpora`.
        lines: How many to score, see `draw_lines`.
        seed: Of the drawing.
        progress: Called with how many of all lines are done, and with their number.

    Returns:
        By name; with an interval where lines of two documents or more were drawn.
    """
    drawn = draw_lines(path, lines=lines, seed=seed)
    documents, first = drawn.documents, drawn.first
    texts = [line for document in documents for line in document][first:]
    words = np.array([max(1, len(text.split())) for text in texts], dtype=np.float64)
    # Lines of a document are alike, so that what was drawn are documents.
    starts = np.cumsum([0, *map(len, documents[:-1])])  # `first` is 0 where there are two
    kinds = {
        "alone": [""] * len(texts),
        "with_history": histories(documents)[first:],
        "with_other_history": other_histories(documents, documents) if len(documents) > 1 else [],
    }
    total = len(texts) * sum(map(bool, kinds.values()))
    done = 0
    nats: dict[str, list[float]] = {}
    for kind, given in kinds.items():
        nats[kind] = []
        for start in range(0, len(given), _TOGETHER):
            pairs = list(zip(given, texts, strict=True))[start : start + _TOGETHER]
            programs = [recall(model, history, score(model, text)) for history, text in pairs]
            nats[kind] += [-(found.log_prob or 0.0) for found in run_all(programs, model)]
            done += len(programs)
            progress(done, total)
    carried = [_carried(model.tokenizer, document) for document in documents]
    nats["carried"] = [value for part in run_all(carried, model) for value in part][first:]
    return {
        f"perplexity_of_lines_{kind}": _perplexity(
            np.add.reduceat(values, starts),
            np.add.reduceat(words, starts),
            f"exp(nats / words) over {drawn.told}; the nats of all tokens, one end of sentence a "
            "line included, over the white-space separated words; "
            f"{_HOW[kind]}; {len(values):,} lines",
        )
        for kind, values in nats.items()
        if values
    }


_HOW = {
    "alone": "each line scored alone",
    "with_history": "each line scored alone, what stands before it in its document given as "
    f"its history ({_CHARACTERS:,} characters at most)",
    "with_other_history": "each line scored alone, another document given as its history",
    "carried": "the state of the network carried from line to line of a document",
}


def _perplexity(nats: np.ndarray, words: np.ndarray, definition: str) -> Metric:
    mean = sampled(nats, words, definition)
    assert mean.value is not None
    assert mean.interval is not None
    low, high = np.exp(mean.interval).tolist()
    interval = (low, high) if mean.count > 1 else None  # one document tells nothing of others
    return Metric(float(np.exp(mean.value)), definition, mean.count, interval)


def _carried(tokenizer: Tokenizer, document: Sequence[str]) -> Program[list[float]]:
    """Return the nats of each line, the state carried on."""
    nats: list[float] = []
    state: State | None = None
    before = tokenizer.bos_id
    for line in document:
        token_ids = [*tokenizer.encode_ids(line), tokenizer.eos_id]
        inputs = [before, *token_ids[:-1]]
        (result,) = yield [Forward(inputs, state, "targets", token_ids)]
        nats.append(-float(result.log_probs.double().sum()))
        state, before = result.state, tokenizer.eos_id
    return nats
