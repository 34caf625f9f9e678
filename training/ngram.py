"""An n-gram model behind KenLM, asked what a network is asked: the baseline of a comparison.

It reads the units of a network's tokenizer, each line alone, and answers at the same positions by
the same rules. A word outside its vocabulary is ``<unk>`` to it, which it scores as any word:
cheaper than a network that spells the word out.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN
from training.calibration import Reliability
from training.corpora import data_name
from training.evaluate import Evaluation, pair_metrics, text_metrics, word_metrics
from training.pairs import make_pairs
from training.running_text import read_running_text
from training.typing_metrics import LISTED, SUGGESTIONS, Answer, Position, draw_positions

END = "</s>"
_MARK = "⋄"  # stands for a join mark in the file, where a control character would not do
_HOW = "pip install kenlm"


def unit_name(unit: bytes) -> str:
    """Return how a unit of text stands in the n-gram model's file."""
    return unit.decode(errors="replace").replace(JOIN, _MARK)


class NGram:
    """A model that KenLM has read.

    Attributes:
        path: The ARPA file.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ValueError: KenLM is not installed, or cannot read the file.
        """
        try:
            import kenlm
        except ImportError:
            raise ValueError(f"an n-gram model is asked through KenLM: {_HOW}") from None
        self.path = path
        self._kenlm: Any = kenlm
        config = kenlm.Config()
        config.show_progress = False
        try:
            self._model: Any = kenlm.Model(str(path), config)
        except OSError as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        found: int = self._model.order
        return found

    @cached_property
    def words(self) -> list[str]:
        """The words of the vocabulary, no punctuation: those that can be suggested."""
        words = []
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("\\2-grams:"):
                    break
                parts = line.split("\t")
                if len(parts) > 1 and any(map(str.isalnum, parts[1])):
                    words.append(parts[1].strip())
        special = {"<s>", END, "<unk>"}
        return [word for word in words if word not in special]

    @cached_property
    def known(self) -> frozenset[str]:
        """The same as a set."""
        return frozenset(self.words)

    def log_prob(self, units: Sequence[str]) -> float:
        """Return the natural log-probability of a line's units, its end included."""
        return self._advance([*units, END])[1]

    def next_words(self, units: Sequence[str]) -> np.ndarray:
        """Return the probability of each of `words` (W,) behind the units of a line."""
        state, _ = self._advance(units)
        score, scratch = self._model.BaseScore, self._kenlm.State()
        return 10.0 ** np.array([score(state, word, scratch) for word in self.words])

    def _advance(self, units: Sequence[str]) -> tuple[Any, float]:
        state, after = self._kenlm.State(), self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        total = 0.0
        for unit in units:
            total += self._model.BaseScore(state, unit, after)
            state, after = after, state
        return state, total * math.log(10)


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


def evaluate_ngram(
    model: NGram,
    path: Path,
    tokenizer: Tokenizer,
    *,
    sample: int,
    seed: int = 0,
    progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Evaluation:
    """Measure an n-gram model as `training.evaluate.evaluate` measures a network.

    Args:
        model: Who is asked.
        path: A text file in one of the formats of `training.corpora`.
        tokenizer: Of the network that it stands beside; it knows every text.
        sample: Positions for the word-level metrics; 0 leaves them out.
        seed: Of the drawing.
        progress: Called with what is being counted, how many are done, and how many there are.

    Raises:
        ValueError: The file holds no text, or is not UTF-8.
    """
    began = time.perf_counter()
    text = read_running_text(path, tokenizer, lines_alone=True)
    documents = text.documents
    nats = 0.0
    for done, document in enumerate(documents):
        nats -= model.log_prob(units_of(tokenizer, document.tolist()))
        if done % 1000 == 0:
            progress("lines", done, len(documents))
    metrics = text_metrics(nats, text)
    next_word = drawn = None
    if sample:
        positions = draw_positions(text, tokenizer, sample, seed=seed)
        answers = []
        for done, position in enumerate(positions):
            before = documents[position.document][: position.offset].tolist()
            answers.append(_answer(model, units_of(tokenizer, before), position))
            progress("positions", done, len(positions))
        next_word = Reliability()
        next_word.add(
            np.array([a.probability for a in answers]), np.array([a.hit for a in answers])
        )
        pairs = make_pairs(path, sample // 2, seed=seed)

        def score(texts: Sequence[str]) -> list[float]:
            return [model.log_prob(units_of(tokenizer, tokenizer.encode_ids(t))) for t in texts]

        metrics |= word_metrics(answers, next_word) | pair_metrics(pairs, score)
        drawn = {"positions": len(positions), "seed": seed, "unproven": 0}
    counts = {
        "lines": text.lines,
        "words": text.words,
        "characters": text.characters,
        "tokens": len(text.tokens),
        "unknown": 0,
    }
    return Evaluation(
        data=data_name(path),
        text={"read": text.remark, **counts},
        sample=drawn,
        metrics=metrics,
        temperature=1.0,
        next_word=next_word,
        uncalibrated=None,
        token=Reliability(),
        seconds=time.perf_counter() - began,
    )


def _answer(model: NGram, before: Sequence[str], position: Position) -> Answer:
    probabilities = model.next_words(before)
    order = np.argsort(-probabilities, kind="stable")
    ranked = [model.words[i] for i in order[:LISTED]]
    rank: int | None = None
    keystrokes: tuple[int, ...] = ()
    if (word := position.word) is not None:
        rank = ranked.index(word) + 1 if word in ranked else None
        keystrokes = tuple(_keystrokes(model, order, word, length) for length in SUGGESTIONS)
    best = float(probabilities[order[0]])
    return Answer(position, rank, best, rank == 1, True, keystrokes)


def _keystrokes(model: NGram, order: np.ndarray, word: str, length: int) -> int:
    """Type ``word`` until it is among the ``length`` best that begin so; one keystroke takes it."""
    if word not in model.known:
        return len(word) + 1
    above: list[str] = []  # what is more probable
    for i in order.tolist():
        if model.words[i] == word:
            break
        above.append(model.words[i])
    for typed in range(len(word)):
        above = [other for other in above if other.startswith(word[:typed])]
        if len(above) < length:
            return typed + 1
    return len(word) + 1
