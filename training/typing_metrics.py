"""How much a model helps somebody who types: next words found, keystrokes saved.

Positions are drawn at random from everything that can come next: words, punctuation marks and ends
of line. At each, the exact search of `models.search` is asked as the keyboard of a phone would
ask it, words without punctuation, behind the whole text of the document before the position.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from models.forward import Pass, Program, read, run_all
from models.language_model import LanguageModel
from models.networks import State
from models.search import Search
from models.tokenizers import Tokenizer
from training.running_text import RunningText

LISTED = 10
SUGGESTIONS = (3, 5)
_DOCUMENTS = 64  # asked side by side


@dataclass(frozen=True)
class Position:
    """A place in a text, and what stands there.

    Attributes:
        document: Index of the document.
        offset: Index in the document of the first token of what stands there.
        word: The word as it is written; None for a punctuation mark or an end of line.
        known: The word is in the vocabulary.
    """

    document: int
    offset: int
    word: str | None
    known: bool = True


@dataclass(frozen=True)
class Answer:
    """What the model suggested at a position.

    Attributes:
        position: Where.
        rank: Place of the true word among the ten most probable, from 1; None beyond or no word.
        probability: Of the most probable word; 0 where there is none.
        hit: Whether that is what stands there.
        proven: The list is exactly the top of the distribution; False where the search gave up.
        keystrokes: To enter the word and the space behind it with 3 and with 5 suggestions; empty
            where there is no word.
    """

    position: Position
    rank: int | None
    probability: float
    hit: bool
    proven: bool
    keystrokes: tuple[int, ...]


def draw_positions(
    text: RunningText, tokenizer: Tokenizer, count: int, *, seed: int
) -> list[Position]:
    """Return ``count`` positions, all if there are no more, in the order of the text."""
    ends = tokenizer.is_word_end.copy()
    ends[tokenizer.eos_id] = True
    closes = ends[text.tokens]  # a word, a mark or a line ends behind this token
    places = np.flatnonzero(np.concatenate([[True], closes[:-1]]))
    count = min(count, len(places))
    chosen = np.sort(np.random.default_rng(seed).choice(places, size=count, replace=False))
    positions = []
    for place in chosen.tolist():
        document = int(np.searchsorted(text.starts, place, side="right")) - 1
        end = place + int(np.argmax(closes[place:])) + 1
        ids = text.tokens[place:end].tolist()
        word = tokenizer.surface(b"".join(tokenizer.pieces[i] for i in ids))
        known = tokenizer.unk_id not in ids
        positions.append(
            Position(
                document=document,
                offset=place - int(text.starts[document]),
                word=word if tokenizer.is_word(word) else None,
                known=known,
            )
        )
    return positions


def answer_positions(
    model: LanguageModel,
    text: RunningText,
    positions: Sequence[Position],
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Answer]:
    """Ask the model at every position.

    Args:
        model: Who is asked.
        text: Where the positions are.
        positions: In the order of the text.
        progress: Called with the number of positions done since the last call.
    """
    return _everywhere(_ask, model, text, positions, progress)


def best_words(
    model: LanguageModel,
    text: RunningText,
    positions: Sequence[Position],
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the best word at each position (N,), and whether it is there (N,).

    Much cheaper than `answer_positions`, whose arguments these are.
    """
    found = _everywhere(_best, model, text, positions, progress)
    return np.array([p for p, _ in found]), np.array([hit for _, hit in found], dtype=bool)


R = TypeVar("R")
Question = Callable[[Tokenizer, Pass, Position], Program[R]]


def _everywhere(
    question: Question[R],
    model: LanguageModel,
    text: RunningText,
    positions: Sequence[Position],
    progress: Callable[[int], object],
) -> list[R]:
    documents = text.documents
    programs = [
        _document(question, model.tokenizer, documents[document], list(group))
        for document, group in groupby(positions, key=lambda position: position.document)
    ]
    answers: list[R] = []
    for start in range(0, len(programs), _DOCUMENTS):
        for part in run_all(programs[start : start + _DOCUMENTS], model):
            answers += part
            progress(len(part))
    return answers


def _document(
    question: Question[R], tokenizer: Tokenizer, tokens: np.ndarray, positions: Sequence[Position]
) -> Program[list[R]]:
    """Read a document once, and ask at its positions on the way."""
    answers = []
    state: State | None = None
    done = 0
    for position in positions:
        between = tokens[done : position.offset].tolist()
        ids = between if state is not None else [tokenizer.bos_id, *between]
        here = yield from read(ids, state)
        answers.append((yield from question(tokenizer, here, position)))
        state, done = here.state, position.offset
    return answers


def _best(tokenizer: Tokenizer, here: Pass, position: Position) -> Program[tuple[float, bool]]:
    words = (yield from Search(tokenizer, limit=1).run(here)).words
    if not words:
        return 0.0, False
    return math.exp(words[0].log_prob), position.known and words[0].text == position.word


def _ask(tokenizer: Tokenizer, here: Pass, position: Position) -> Program[Answer]:
    found = yield from Search(tokenizer, limit=LISTED).run(here)
    words = [word.text for word in found.words]
    probability = float(np.exp(found.words[0].log_prob)) if words else 0.0
    word = position.word
    rank: int | None = None
    keystrokes: tuple[int, ...] = ()
    if word is not None and position.known:
        rank = words.index(word) + 1 if word in words else None
        keystrokes = yield from _keystrokes(tokenizer, here, word, words)
    elif word is not None:
        keystrokes = (len(word) + 1,) * len(SUGGESTIONS)
    hit = rank == 1
    return Answer(position, rank, probability, hit, found.proven, keystrokes)


def _keystrokes(
    tokenizer: Tokenizer, here: Pass, word: str, listed: Sequence[str]
) -> Program[tuple[int, ...]]:
    """Type ``word`` letter by letter until each length of list shows it; one keystroke takes it."""
    costs = dict.fromkeys(SUGGESTIONS, len(word) + 1)
    open_lengths = list(SUGGESTIONS)
    for typed in range(len(word)):
        if typed:
            prefix = word[:typed].encode()
            found = yield from Search(tokenizer, limit=max(open_lengths), prefix=prefix).run(here)
            listed = [entry.text for entry in found.words]
        for length in [n for n in open_lengths if word in listed[:n]]:
            costs[length] = typed + 1
            open_lengths.remove(length)
        if not open_lengths:
            break
    return tuple(costs.values())


def typed_words(answers: Sequence[Answer]) -> Iterator[tuple[str, Answer]]:
    """Yield the answers at whose positions a word stands, with the word."""
    for answer in answers:
        if answer.position.word is not None:
            yield answer.position.word, answer
