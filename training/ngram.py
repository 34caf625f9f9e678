"""An n-gram model in the ARPA format: probabilities of lines, and of the words that can follow.

Every n-gram is its first n - 1 words, an index among those of the order below, and its last word;
sorted by both, the words seen behind a context stand next to one another.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

BOS, END, UNK = "<s>", "</s>", "<unk>"
SPELLING = ".spelling.arpa"  # ends the name of the file beside a model's


@dataclass(frozen=True)
class Order:
    """All n-grams of one order, N of them.

    Attributes:
        keys: Index of the first n - 1 words times the size of the vocabulary, plus the last word,
            ascending, (N,), int64.
        log_probs: Decimal log-probability of the last word behind the others, (N,).
        back_offs: Decimal logarithm of what its continuations leave to shorter n-grams, (N,).
    """

    keys: np.ndarray
    log_probs: np.ndarray
    back_offs: np.ndarray


class NGram:
    """An n-gram model.

    Attributes:
        path: The ARPA file.
        names: Its vocabulary V, markers included.
        orders: Its n-grams, from one word up.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ValueError: It is no ARPA file, or contradicts itself.
        """
        self.path = path
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                self.names, self.orders = _read(file)
        except (ValueError, LookupError) as error:
            raise ValueError(f"{path}: not an ARPA file ({error})") from None
        self.ids = {name: i for i, name in enumerate(self.names)}
        if missing := {BOS, END, UNK} - self.ids.keys():
            raise ValueError(f"{path}: its vocabulary lacks {', '.join(sorted(missing))}")

    @cached_property
    def spelling(self) -> "NGram | None":
        """What spells the words outside the vocabulary, byte by byte; None without its file."""
        path = self.path.with_name(self.path.stem + SPELLING)
        return NGram(path) if path.exists() else None

    def line(self, units: Sequence[str]) -> list[int]:
        """Return the ids of a line's units, from its beginning to before its end."""
        unknown = self.ids[UNK]
        return [self.ids[BOS], *(self.ids.get(unit, unknown) for unit in units)]

    def log_probs(self, ids: np.ndarray) -> np.ndarray:
        """Return the natural log-probability of each id (T,) behind those before it.

        Args:
            ids: Of lines behind one another. Each begins with BOS, which counts 0, and before
                which nothing is looked at.
        """
        first = self.orders[0]
        grams, found = ids.astype(np.int64), first.log_probs[ids]
        below = first
        for order in self.orders[1:]:
            if not len(order.keys):  # nor has any longer one
                break
            before = np.concatenate([[-1], grams[:-1]])  # the context, -1 if it was never seen
            grams = self._find(order, before, ids)
            backed_off = found + np.where(before < 0, 0, below.back_offs[before])
            found = np.where(grams < 0, backed_off, order.log_probs[grams])
            below = order
        return np.where(ids == self.ids[BOS], 0, found * math.log(10))

    def next_words(self, ids: Sequence[int]) -> np.ndarray:
        """Return the probability of every id (V,) behind a line's ids."""
        probabilities = self._unigrams.copy()
        size = len(self.names)
        for length, (below, order) in enumerate(pairwise(self.orders), start=1):
            if len(ids) < length:
                break
            context = self._index(ids[-length:])
            if context < 0:  # a pruned model may still hold a longer one
                continue
            start, end = np.searchsorted(order.keys, [context * size, (context + 1) * size])
            probabilities *= 10 ** below.back_offs[context]
            probabilities[order.keys[start:end] % size] = 10 ** order.log_probs[start:end]
        probabilities[self.ids[BOS]] = 0
        return probabilities

    def spell(self, unit: str) -> float:
        """Return the natural log-probability of the letters of an unknown word; 0 unspelled."""
        if self.spelling is None:
            return 0.0
        ids = self.spelling.line([f"{byte:02x}" for byte in unit.encode()])
        return float(self.spelling.log_probs(np.array([*ids, self.spelling.ids[END]])).sum())

    @cached_property
    def _unigrams(self) -> np.ndarray:
        found: np.ndarray = 10 ** self.orders[0].log_probs
        return found

    def _index(self, ids: Sequence[int]) -> int:
        """Return the index of an n-gram among those of its order, -1 if it was never seen."""
        gram = np.array(ids[:1])
        for order, word in zip(self.orders[1:], ids[1:], strict=False):
            gram = self._find(order, gram, np.array([word]))
        return int(gram[0])

    def _find(self, order: Order, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        return find(order.keys, np.where(contexts < 0, -1, contexts * len(self.names) + words))


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each of ``wanted`` (N,) stands in ascending ``keys``, -1 where it does not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: np.ndarray = np.where(keys[places] == wanted, places, -1)
    return found


def _read(file: Iterator[str]) -> tuple[list[str], list[Order]]:
    """Return the vocabulary and the n-grams."""
    counts = []
    if next(file, "").strip() != "\\data\\":
        raise ValueError("it does not begin with \\data\\")
    for line in file:
        if line.startswith("ngram "):
            counts.append(int(line.partition("=")[2]))
        elif line.startswith("\\"):
            break
    if not counts:
        raise ValueError("it counts no n-grams")
    names: list[str] = []
    ids: dict[str, int] = {}
    orders: list[Order] = []
    for n, count in enumerate(counts, 1):
        words, values = array("q"), array("d")
        for line in file:
            parts = line.rstrip("\n").split("\t")
            if len(parts) < 2:
                if line.startswith("\\"):
                    break
                continue
            if n == 1:
                ids[parts[1]] = len(names)
                names.append(parts[1])
            words.extend(map(ids.__getitem__, parts[1].split(" ")))
            values.extend((float(parts[0]), float(parts[2]) if len(parts) > 2 else 0.0))
        if len(values) != 2 * count or len(words) != n * count:
            raise ValueError(f"it holds other than {count} {n}-grams")
        orders.append(_order(np.array(words).reshape(count, n), np.array(values), orders, names))
    return names, orders


def _order(
    words: np.ndarray, values: np.ndarray, below: Sequence[Order], names: Sequence[str]
) -> Order:
    """Sort the n-grams (N, n) of one order."""
    size = len(names)
    keys = words[:, 0]
    for order, last in zip(below[1:], words.T[1:], strict=False):
        keys = find(order.keys, keys * size + last)
    if below:
        if (keys < 0).any():
            raise ValueError(f"some {words.shape[1]}-gram's first words are no n-gram")
        keys = keys * size + words[:, -1]
    places = np.argsort(keys, kind="stable")
    log_probs, back_offs = values.reshape(-1, 2)[places].T
    return Order(keys[places], log_probs.copy(), back_offs.copy())
