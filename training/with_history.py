"""What a history is worth: lines scored alone, and with what stands before them in their document.

Every line is a question of its own, asked as the service answers it. For comparison it is also
scored with another document as history, which should cost little, and with the network's state
carried from line to line, which is what a program gets that sends the whole document as text.
"""

from collections.abc import Callable, Sequence
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


def draw_documents(path: Path, *, lines: int, seed: int) -> list[list[str]]:
    """Return whole documents, drawn at random, until they have this many lines; the last is cut."""
    documents = list(read_whole_documents(path))
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
        lines: How many to score, of documents drawn at random.
        seed: Of the drawing.
        progress: Called with how many of all lines are done, and with their number.
    """
    documents = draw_documents(path, lines=lines, seed=seed)
    texts = [line for document in documents for line in document]
    words = np.array([max(1, len(text.split())) for text in texts], dtype=np.float64)
    # Lines of a document are alike, so that what was drawn are documents.
    starts = np.cumsum([0, *map(len, documents[:-1])])
    kinds = {
        "alone": [""] * len(texts),
        "with_history": histories(documents),
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
    nats["carried"] = [value for part in run_all(carried, model) for value in part]
    return {
        f"perplexity_of_lines_{kind}": _perplexity(
            np.add.reduceat(values, starts),
            np.add.reduceat(words, starts),
            f"{_DEFINITIONS[kind]}; {len(values):,} lines",
        )
        for kind, values in nats.items()
        if values
    }


_DEFINITIONS = {
    kind: "exp(nats / words) over lines of documents drawn at random; the nats of all tokens, one "
    f"end of sentence a line included, over the white-space separated words; {how}"
    for kind, how in {
        "alone": "each line scored alone",
        "with_history": "each line scored alone, what stands before it in its document given as "
        f"its history ({_CHARACTERS:,} characters at most)",
        "with_other_history": "each line scored alone, another document given as its history",
        "carried": "the state of the network carried from line to line of a document",
    }.items()
}


def _perplexity(nats: np.ndarray, words: np.ndarray, definition: str) -> Metric:
    mean = sampled(nats, words, definition)
    assert mean.value is not None
    assert mean.interval is not None
    low, high = np.exp(mean.interval).tolist()
    return Metric(float(np.exp(mean.value)), definition, mean.count, (low, high))


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
