"""Which tokens byte pair encoding never writes side by side.

A word's tokens come about by merging neighbours, the pair that was learnt first before all others.
Two tokens stand side by side only where no merge reached over their border while they grew. Of two
given tokens that can be told without what stands around them: merges within one token know nothing
of the other. So a row of tokens in which one pair is never written is no spelling of any text.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Self

import numpy as np

ENDLESS = (1 << 31) - 1
UNCLEAR = -2
_KEPT = 1 << 10  # answers, a byte a token each


class Merges:
    """How each of V tokens grew out of bytes.

    A merge's *rank* is its place among all of them: the lower, the sooner it is done.

    Attributes:
        complete: No token is unclear: a row of a word's tokens is its spelling if all neighbours
            are ones that are written side by side.
        last: Shape (V,), int32: the right half of each token; -1 for none, `UNCLEAR` for a token
            that comes about in several ways, or out of such: of its neighbours nothing is told.
        rank: Shape (V,), int32: of the merge that makes it.
        behind: Shape (V + 1,), int32: where in ``partners`` those of each left half begin.
        partners: Shape (M,), int32: right halves.
        ranks: Shape (M,), int32: of these merges.
        within: Shape (V + 1,), int32: where in ``begun`` the tokens begin that grew out of a token
            at their left border, itself among them.
        begun: Shape (B,), int32: these tokens.
        until: Shape (B,), int32: the rank of the merge in which that token ended; `ENDLESS` for
            the token itself.
    """

    def __init__(self, vocab_size: int, pairs: list[tuple[int, int, int]]) -> None:
        """Tabulate merges of a left and a right half into a whole, by rank."""
        self.vocab_size = vocab_size
        first, last, rank = ([-1] * vocab_size for _ in range(3))
        ways = Counter(whole for _, _, whole in pairs)
        clear = [ways[i] == 0 for i in range(vocab_size)]
        merges: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, (left, right, whole) in enumerate(pairs):
            merges[left].append((right, number))
            first[whole], last[whole], rank[whole] = left, right, number
            clear[whole] = clear[left] and clear[right] and ways[whole] == 1
        begun: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for token in (i for i in range(vocab_size) if clear[i]):
            border, until = token, ENDLESS
            while border >= 0:
                begun[border].append((token, until))
                border, until = first[border], rank[border]
        self.last, self.rank = np.array(last, np.int32), np.array(rank, np.int32)
        self.last[~np.array(clear)] = UNCLEAR
        self.complete = bool(pairs) and all(clear)
        self.behind, self.partners, self.ranks = _flat(merges, vocab_size)
        self.within, self.begun, self.until = _flat(begun, vocab_size)
        self.never_follow = lru_cache(_KEPT)(self._never_follow)

    @classmethod
    def of(cls, tokenizer_json: str, vocab_size: int) -> Self:
        """Read the merges of a tokenizer of the Hugging Face format; none where others rule."""
        model: dict[str, Any] = json.loads(tokenizer_json)["model"]
        others = ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
        if model["type"] != "BPE" or any(model.get(name) for name in others):
            return cls(vocab_size, [])
        ids = model["vocab"]
        halves = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in halves]
        return cls(vocab_size, [merge for merge in merges if max(merge) < vocab_size])

    def _never_follow(self, token: int) -> np.ndarray:
        """Return the tokens (V,), bool, that are never written behind ``token``."""
        found = np.zeros(self.vocab_size, bool)
        for border, end in self._borders(token):
            merges = slice(self.behind[border], self.behind[border + 1])
            in_time = self.ranks[merges] < end
            ranks, partners = self.ranks[merges][in_time], self.partners[merges][in_time]
            starts, counts = self.within[partners], np.diff(self.within)[partners]
            # All of ``begun`` that belongs to these partners, one partner after another.
            places = np.arange(counts.sum()) + np.repeat(starts - counts.cumsum() + counts, counts)
            found[self.begun[places][self.until[places] >= np.repeat(ranks, counts)]] = True
        return found

    def _borders(self, token: int) -> Iterator[tuple[int, int]]:
        """Yield what stood at a token's right border, and the rank that ended it."""
        end = ENDLESS
        while token >= 0 and self.last[token] != UNCLEAR:
            yield token, end
            token, end = int(self.last[token]), int(self.rank[token])


def _flat(
    lists: dict[int, list[tuple[int, int]]], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each list begins, and all their pairs in a row, as two arrays."""
    starts = np.cumsum([0, *(len(lists.get(i, ())) for i in range(size))], dtype=np.int32)
    pairs = [pair for i in range(size) for pair in lists.get(i, ())]
    flat = np.array(pairs, np.int32).reshape(-1, 2)
    return starts, np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1])
