"""An n-gram model measured as a network is measured: the baseline of a comparison.

It reads the units of a network's tokenizer, each line alone, and answers at the same positions by
the same rules. A network spells out every word; so that the n-gram model pays for the words outside
its vocabulary too, their probability is that of ``<unk>`` times that of their letters, by a model
of bytes. The two together leave a little probability to known words spelled out, which is lost.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN
from training.calibration import Reliability
from training.corpora import data_name
from training.evaluate import Evaluation, pair_metrics, text_metrics, word_metrics
from training.ngram import BOS, END, UNK, NGram
from training.pairs import make_pairs
from training.running_text import read_running_text
from training.typing_metrics import LISTED, SUGGESTIONS, Answer, Position, draw_positions

_MARK = "⋄"  # stands for a join mark in the file, where a control character would not do
_LINES = 4096  # scored together


def unit_name(unit: bytes) -> str:
    """Return how a unit of text stands in the n-gram model's file."""
    return unit.decode(errors="replace").replace(JOIN, _MARK)


def units_of(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    """Return the units that tokens make up, without ends of sentences."""
    units, unit = [], b""
    for token in token_ids:
        if token == tokenizer.eos_id:
            continue
        unit += tokenizer.pieces[token]
        if tokenizer.is_word_end[token]:
            units.append(unit_name(unit))
            unit = b""
    return units


@dataclass(frozen=True)
class LineScores:
    """What lines cost an n-gram model.

    Attributes:
        log_probs: Natural log-probability of each line, its end included, (lines,).
        spelling: What of it the letters of unknown words cost, (lines,).
        unknown: Units outside the vocabulary.
        units: All units, without ends of lines.
    """

    log_probs: np.ndarray
    spelling: np.ndarray
    unknown: int
    units: int


def score_lines(model: NGram, lines: Sequence[Sequence[str]]) -> LineScores:
    """Score lines of units, each alone."""
    unknown = [[unit for unit in line if unit not in model.ids] for line in lines]
    spelling = np.array([sum(map(model.spell, units)) for units in unknown], dtype=np.float64)
    totals = []
    for start in range(0, len(lines), _LINES):
        ids = [[*model.line(line), model.ids[END]] for line in lines[start : start + _LINES]]
        flat = np.array([*chain.from_iterable(ids)])
        totals.append(
            np.add.reduceat(model.log_probs(flat), np.flatnonzero(flat == model.ids[BOS]))
        )
    log_probs = np.concatenate(totals) + spelling if totals else np.zeros(0)
    return LineScores(log_probs, spelling, sum(map(len, unknown)), sum(map(len, lines)))


@dataclass(frozen=True)
class Words:
    """The words that can be suggested: those of the vocabulary, punctuation left out.

    Attributes:
        ids: In the n-gram model, (W,).
        names: How they are written.
    """

    ids: np.ndarray
    names: list[str]

    @classmethod
    def of(cls, model: NGram) -> "Words":
        """Return the words of a model."""
        found = [
            (i, name)
            for i, name in enumerate(model.names)
            if name not in (BOS, END, UNK) and any(map(str.isalnum, name))
        ]
        return cls(np.array([i for i, _ in found], dtype=np.int64), [name for _, name in found])


def evaluate_ngram(
    model: NGram, path: Path, tokenizer: Tokenizer, *, sample: int, seed: int = 0
) -> Evaluation:
    """Measure an n-gram model as `training.evaluate.evaluate` measures a network.

    Args:
        model: Who is asked.
        path: A text file in one of the formats of `training.corpora`.
        tokenizer: Of the network that it stands beside; it knows every text.
        sample: Positions for the word-level metrics; 0 leaves them out.
        seed: Of the drawing.

    Raises:
        ValueError: The file holds no text, or is not UTF-8.
    """
    began = time.perf_counter()
    text = read_running_text(path, tokenizer, lines_alone=True)
    documents = text.documents
    scores = score_lines(model, [units_of(tokenizer, line.tolist()) for line in documents])
    metrics = text_metrics(-float(scores.log_probs.sum()), text)
    next_word = drawn = None
    if sample:
        positions = draw_positions(text, tokenizer, sample, seed=seed)
        words = Words.of(model)
        answers = []
        for position in positions:
            before = units_of(tokenizer, documents[position.document][: position.offset].tolist())
            answers.append(_answer(model, words, before, position))
        next_word = Reliability()
        next_word.add(
            np.array([a.probability for a in answers]), np.array([a.hit for a in answers])
        )

        def log_probs(texts: Sequence[str]) -> list[float]:
            lines = [units_of(tokenizer, tokenizer.encode_ids(line)) for line in texts]
            found: list[float] = score_lines(model, lines).log_probs.tolist()
            return found

        pairs = make_pairs(path, sample // 2, seed=seed)
        metrics |= word_metrics(answers, next_word) | pair_metrics(pairs, log_probs)
        drawn = {"positions": len(positions), "seed": seed, "unproven": 0}
    counts = {
        "lines": text.lines,
        "words": text.words,
        "characters": text.characters,
        "tokens": len(text.tokens),
        "unknown": scores.unknown,
    }
    remark = _remark(model, scores, text.words)
    return Evaluation(
        data=data_name(path),
        text={"read": text.remark, "unknown_words": remark, **counts},
        sample=drawn,
        metrics=metrics,
        temperature=1.0,
        next_word=next_word,
        uncalibrated=None,
        token=Reliability(),
        seconds=time.perf_counter() - began,
    )


def _remark(model: NGram, scores: LineScores, words: int) -> str:
    """Return what unknown words cost, for people."""
    share = f"{100 * scores.unknown / max(1, scores.units):.2f}% of the units are unknown to it"
    if model.spelling is None:
        return f"{share} and scored as `<unk>`, whatever their letters: cheaper than for a network"
    unspelled = math.exp(-float((scores.log_probs - scores.spelling).sum()) / words)
    return (
        f"{share} and spelled out; as `<unk>` alone they would make its perplexity {unspelled:.1f}"
    )


def _answer(model: NGram, words: Words, before: Sequence[str], position: Position) -> Answer:
    probabilities = model.next_words(model.line(before))[words.ids]
    order = np.argsort(-probabilities, kind="stable")
    ranked = [words.names[i] for i in order[:LISTED]]
    rank: int | None = None
    keystrokes: tuple[int, ...] = ()
    if (word := position.word) is not None:
        rank = ranked.index(word) + 1 if word in ranked else None
        above: list[str] | None = None  # what is more probable
        if (i := model.ids.get(word)) is not None:
            place = int(np.flatnonzero(words.ids[order] == i)[0])
            above = [words.names[other] for other in order[:place]]
        keystrokes = tuple(_keystrokes(above, word, length) for length in SUGGESTIONS)
    best = float(probabilities[order[0]])
    return Answer(position, rank, best, rank == 1, True, keystrokes)


def _keystrokes(above: list[str] | None, word: str, length: int) -> int:
    """Type ``word`` until it is among the ``length`` best that begin so; one keystroke takes it."""
    if above is None:
        return len(word) + 1
    for typed in range(len(word)):
        above = [other for other in above if other.startswith(word[:typed])]
        if len(above) < length:
            return typed + 1
    return len(word) + 1
