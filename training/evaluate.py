"""What a model is worth on a text: perplexities, words found, keystrokes saved, calibration."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.forward import run
from models.language_model import LanguageModel
from models.score import score_all
from training.calibration import BINS, Reliability
from training.corpora import data_name
from training.metrics import Metric, sampled, whole
from training.pairs import Pairs, accuracy, make_pairs
from training.perplexity import score_documents
from training.running_text import RunningText, read_running_text
from training.typing_metrics import (
    LISTED,
    SUGGESTIONS,
    Answer,
    Position,
    answer_positions,
    best_words,
    draw_positions,
    typed_words,
)
from training.with_history import history_metrics

SAMPLE = 2000
CALIBRATION = 8  # times as many positions: the error of few is mostly chance
_SEED = 0
_SCORED_TOGETHER = 256  # sentences


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one file.

    Attributes:
        data: Name of the file: its folder and itself, without the ending.
        text: How it was read, and how many lines, words, characters and tokens it has.
        sample: Positions drawn, the seed of the drawing, and how many of the lists are not proven
            exact; None where no sample was asked for.
        metrics: By name; word-level ones are missing where no sample was asked for.
        temperature: At which it was measured.
        next_word: Reliability of the most probable next word, over positions of its own.
        uncalibrated: The same at temperature 1; None where that is the model's.
        token: Reliability of the most probable token, over the whole file.
        seconds: That it took.
    """

    data: str
    text: dict[str, Any]
    sample: dict[str, int] | None
    metrics: dict[str, Metric]
    temperature: float
    next_word: Reliability | None
    uncalibrated: Reliability | None
    token: Reliability
    seconds: float

    def to_values(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        reliability = {"token": self.token.to_values()}
        if self.next_word is not None:
            reliability["next_word"] = self.next_word.to_values()
        if self.uncalibrated is not None:
            reliability["next_word_uncalibrated"] = self.uncalibrated.to_values()
        return {
            "data": self.data,
            "text": self.text,
            "sample": self.sample,
            "temperature": self.temperature,
            "metrics": {name: metric.to_values() for name, metric in self.metrics.items()},
            "reliability": reliability,
            "seconds": round(self.seconds, 1),
        }


def evaluate(
    model: LanguageModel,
    path: Path,
    *,
    sample: int = SAMPLE,
    history: int = 0,
    seed: int = _SEED,
    lines_alone: bool = False,
    progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Evaluation:
    """Measure a model on a text file, read as it stands.

    Args:
        model: Its calibration temperature applies, as it does when it is served.
        path: A text file in one of the formats of `training.corpora`.
        sample: Positions to draw for the word-level metrics, pairs of sentences to compare; 0
            leaves them out.
        history: Lines to score with what stands before them as history, see
            `training.with_history`; 0 leaves them out.
        seed: Of the drawings.
        lines_alone: Every line begins anew, whatever stands before it.
        progress: Called with what is being counted, how many are done, and how many there are.

    Raises:
        ValueError: The file holds no text, or is not UTF-8.
    """
    began = time.perf_counter()
    text = read_running_text(path, model.tokenizer, lines_alone=lines_alone)
    nats, token = 0.0, Reliability()
    done = 0
    for scores in score_documents(model, text.documents):
        nats -= float(scores.log_probs.sum())
        token.add(scores.top, scores.hits)
        done += len(scores.log_probs)
        progress("tokens", done, len(text.tokens))
    metrics = _whole_file_metrics(text, nats, token)
    next_word = uncalibrated = drawn = None
    if sample:
        positions = draw_positions(text, model.tokenizer, sample, seed=seed)
        answers = answer_positions(
            model, text, positions, progress=_counting(progress, len(positions))
        )
        unproven = sum(not answer.proven for answer in answers)
        drawn = {"positions": len(positions), "seed": seed, "unproven": unproven}
        places = draw_positions(text, model.tokenizer, CALIBRATION * sample, seed=seed)
        next_word = _reliability(model, text, places, progress)
        metrics |= word_metrics(answers, next_word)
        pairs = make_pairs(path, sample // 2, seed=seed)
        metrics |= pair_metrics(pairs, lambda texts: _total_log_probs(model, texts))
        if model.temperature != 1:
            plain = replace(model, temperature=1.0, backend=None)  # type: ignore[arg-type]
            uncalibrated = _reliability(plain, text, places, progress)
            metrics["next_word_calibration_error_at_1"] = Metric(
                uncalibrated.error,
                "the calibration error of the same predictions at temperature 1",
                len(places),
            )
    if history:
        metrics |= history_metrics(
            model, path, lines=history, seed=seed, progress=partial(progress, "lines")
        )
    counts = {
        "lines": text.lines,
        "words": text.words,
        "characters": text.characters,
        "tokens": len(text.tokens),
        "unknown": text.unknown,
    }
    return Evaluation(
        data=data_name(path),
        text={"read": text.remark, **counts},
        sample=drawn,
        metrics=metrics,
        temperature=model.temperature,
        next_word=next_word,
        uncalibrated=uncalibrated,
        token=token,
        seconds=time.perf_counter() - began,
    )


def _total_log_probs(model: LanguageModel, texts: Sequence[str]) -> list[float]:
    found = []
    for start in range(0, len(texts), _SCORED_TOGETHER):
        found += run(score_all(model, texts[start : start + _SCORED_TOGETHER]), model)
    return [score.log_prob or 0.0 for score in found]


def pair_metrics(
    pairs: Pairs, log_probs: Callable[[Sequence[str]], Sequence[float]]
) -> dict[str, Metric]:
    """Return how often true sentences are told from spoiled ones; nothing where there are none.

    Args:
        pairs: Of a text.
        log_probs: Returns the total log-probability of each sentence, its end included.
    """
    spoiled = {
        "word_order_accuracy": (pairs.order, "its words shuffled, punctuation left in place"),
        "word_choice_accuracy": (
            pairs.choice,
            "one content word swapped for another as frequent: by frequency alone, "
            f"{100 * pairs.unigram_accuracy():.1f}%",
        ),
    }
    return {
        name: sampled(
            accuracy(some, log_probs),
            None,
            "share of lines, each alone, that have a higher log-probability, their end included, "
            f"than the same with {what}; sampled lines of four words and more",
        )
        for name, (some, what) in spoiled.items()
        if some
    }


def _reliability(
    model: LanguageModel,
    text: RunningText,
    positions: Sequence[Position],
    progress: Callable[[str, int, int], object],
) -> Reliability:
    reliability = Reliability()
    count = _counting(progress, len(positions))
    reliability.add(*best_words(model, text, positions, progress=count))
    return reliability


def _counting(progress: Callable[[str, int, int], object], total: int) -> Callable[[int], object]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress("positions", done, total)

    return add


def _whole_file_metrics(text: RunningText, nats: float, token: Reliability) -> dict[str, Metric]:
    tokens = len(text.tokens)
    return {
        "perplexity_per_token": Metric(
            perplexity_of(nats, tokens),
            "exp(nats / tokens) over the whole file; every token counts, one end of sentence a "
            "line and <unk> included",
            tokens,
        ),
        **text_metrics(nats, text),
        "token_calibration_error": Metric(
            token.error,
            f"expected calibration error (Guo et al. 2017, {BINS} bins of equal width) of the "
            "probability of the most probable token, over the whole file; 0 is best",
            tokens,
        ),
    }


def text_metrics(nats: float, text: RunningText) -> dict[str, Metric]:
    """Return what ``nats`` of a whole text come to by measures that no tokenizer has a share in."""
    return {
        "perplexity_per_word": Metric(
            perplexity_of(nats, text.words),
            "exp(nats / words) over the whole file; the nats of all tokens, ends of sentence "
            "included, over the white-space separated words",
            text.words,
        ),
        "bits_per_character": whole(
            nats / math.log(2),
            text.characters,
            "bits of all tokens, ends of sentence included, over the characters of the text "
            "without white space around its lines, one line break a line included",
        ),
    }


def perplexity_of(nats: float, count: int) -> float:
    """Return ``exp(nats / count)``; infinity where no float holds it."""
    return math.exp(nats / count) if nats < 700 * count else math.inf


def word_metrics(answers: Sequence[Answer], next_word: Reliability) -> dict[str, Metric]:
    """Return what the answers at sampled positions say, and the calibration of the best word."""
    typed = list(typed_words(answers))
    ranks = np.array([answer.rank or np.inf for _, answer in typed])
    metrics = {
        f"recall_at_{k}": sampled(
            (ranks <= k).astype(np.float64),
            None,
            f"share of words that stand among the {k} most probable next words, of which "
            "punctuation is none; an unknown word is a miss; sampled positions of words",
        )
        for k in (1, 3)
    }
    metrics["mean_reciprocal_rank"] = sampled(
        1 / ranks,
        None,
        f"mean of 1 / rank of the word among the {LISTED} most probable next words, 0 beyond; "
        "sampled positions of words",
    )
    full = np.array([len(word) + 1 for word, _ in typed], dtype=np.float64)
    for i, length in enumerate(SUGGESTIONS):
        used = np.array([answer.keystrokes[i] for _, answer in typed])
        metrics[f"keystroke_savings_{length}"] = sampled(
            full - used,
            full,
            f"share of keystrokes saved with {length} suggestions: a typed word costs its "
            "characters and a space; one keystroke accepts it, with its space, as soon as it is "
            "suggested for what is typed of it, nothing typed included; an unknown word counts as "
            "<unk>'s five characters and saves nothing; sampled positions of words",
        )
    metrics["next_word_calibration_error"] = Metric(
        next_word.error,
        f"expected calibration error (Guo et al. 2017, {BINS} bins of equal width) of the "
        "probability of the most probable next word; sampled positions of words, punctuation and "
        "ends of line; no interval, since resampling biases it upwards; 0 is best, but see chance",
        int(next_word.counts.sum()),
    )
    metrics["next_word_calibration_chance"] = Metric(
        next_word.chance,
        "the calibration error that as many predictions would show on average, by simulation, if "
        "every probability held exactly what it promises",
        int(next_word.counts.sum()),
    )
    return metrics
