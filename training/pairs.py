"""Pairs of a true sentence and a spoiled one: does a model know order, and choice of words?

- order: the words of a sentence shuffled; punctuation stays where it stands;
- choice: one content word swapped for another as frequent. The other is drawn as it occurs in the
  text, so that its count says nothing about which of the two is true.

A model is right where the true sentence, its end included, has the higher log-probability (the
idea of Marvin & Linzen 2018); a tie counts half.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.corpora import read_documents

_PARTS = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
_FEWEST_WORDS = 4  # of a sentence
_FUNCTION_WORDS = 150  # the most frequent words of a text, none of which is swapped
_SHORTEST = 4  # letters of a word that is swapped
_FAMILY = 4  # letters that inflections of a word begin with


@dataclass(frozen=True)
class Pair:
    """Two sentences, and the two words in which they differ where they do so in one."""

    true: str
    spoiled: str
    words: tuple[str, str] | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs of one text.

    Attributes:
        order: True sentences and their shuffles.
        choice: True sentences, and the same with one word swapped.
        counts: How often each word occurs in the text, in lower case.
    """

    order: list[Pair]
    choice: list[Pair]
    counts: Counter[str]

    def unigram_accuracy(self) -> float:
        """Share of swaps in which the true word is the more frequent one; about a half."""
        gains = [
            self.counts[a] - self.counts[b] for a, b in (p.words for p in self.choice if p.words)
        ]
        return _share(np.array(gains))


def make_pairs(path: Path, count: int, *, seed: int = 0) -> Pairs:
    """Return up to ``count`` pairs of each kind, from lines of a text drawn at random.

    Raises:
        ValueError: The file is not UTF-8.
    """
    lines = dict.fromkeys(line.strip() for document in read_documents(path) for line in document)
    sentences = [line for line in lines if len(_words(line)) >= _FEWEST_WORDS]
    counts = Counter(word.lower() for line in lines for word in _words(line))
    random = np.random.default_rng(seed)
    drawn = [sentences[i] for i in random.permutation(len(sentences))]
    swaps = _Swaps(counts)
    return Pairs(
        _collect(drawn, count, lambda line: _shuffle(line, random)),
        _collect(drawn, count, lambda line: swaps.swap(line, random)),
        counts,
    )


def accuracy(
    pairs: Sequence[Pair], log_probs: Callable[[Sequence[str]], Sequence[float]]
) -> np.ndarray:
    """Return what each pair counts, (N,): 1 where the true sentence is likelier, a tie 1/2.

    Args:
        pairs: To be told apart.
        log_probs: Returns the total log-probability of each sentence, its end included.
    """
    found = np.array(log_probs([text for pair in pairs for text in (pair.true, pair.spoiled)]))
    return _wins(found[0::2] - found[1::2])


def _wins(gains: np.ndarray) -> np.ndarray:
    wins: np.ndarray = (gains > 0) + 0.5 * (gains == 0)
    return wins


def _share(gains: np.ndarray) -> float:
    return float(_wins(gains).mean()) if len(gains) else math.nan


def _collect(lines: Sequence[str], count: int, spoil: Callable[[str], Pair | None]) -> list[Pair]:
    pairs: list[Pair] = []
    for line in lines:
        if len(pairs) == count:
            break
        if pair := spoil(line):
            pairs.append(pair)
    return pairs


def _split(line: str) -> list[tuple[str, str, str]]:
    """Return each word between the punctuation that touches it; no word for a mark alone."""
    parts = [_PARTS.match(chunk) for chunk in line.split()]
    return [(p[1], p[2], p[3]) for p in parts if p]


def _words(line: str) -> list[str]:
    return [word for _, word, _ in _split(line) if word]


def _join(parts: Sequence[tuple[str, str, str]]) -> str:
    return " ".join("".join(part) for part in parts)


def _shuffle(line: str, random: np.random.Generator) -> Pair | None:
    parts = _split(line)
    places = [i for i, (_, word, _) in enumerate(parts) if word]
    shuffled = list(parts)
    for place, source in zip(places, random.permutation(places).tolist(), strict=True):
        shuffled[place] = (parts[place][0], parts[source][1], parts[place][2])
    pair = Pair(_join(parts), _join(shuffled))
    return pair if pair.true != pair.spoiled else None


class _Swaps:
    """Content words in bins of like frequency, a factor of two each."""

    def __init__(self, counts: Counter[str]) -> None:
        common = {word for word, _ in counts.most_common(_FUNCTION_WORDS)}
        bins: dict[int, list[str]] = {}
        for word, count in counts.items():
            if word.isalpha() and len(word) >= _SHORTEST and word not in common:
                bins.setdefault(int(math.log2(count)), []).append(word)
        self.bin_of = {word: key for key, words in bins.items() for word in words}
        self.bins = {key: (words, _cumulative(words, counts)) for key, words in bins.items()}

    def swap(self, line: str, random: np.random.Generator) -> Pair | None:
        parts = _split(line)
        places = [i for i, (_, word, _) in enumerate(parts) if word in self.bin_of]
        if not places:
            return None
        place = int(random.choice(places))
        before, word, behind = parts[place]
        words, cumulative = self.bins[self.bin_of[word]]
        other = words[int(np.searchsorted(cumulative, random.random() * cumulative[-1], "right"))]
        if other[:_FAMILY] == word[:_FAMILY]:
            return None
        swapped = [*parts[:place], (before, other, behind), *parts[place + 1 :]]
        return Pair(_join(parts), _join(swapped), (word, other))


def _cumulative(words: Sequence[str], counts: Counter[str]) -> np.ndarray:
    return np.cumsum([counts[word] for word in words])
