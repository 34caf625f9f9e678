"""Which tokens byte pair encoding never writes side by side.

A word's tokens come about by merging neighbours, the pair that was learnt first before all others.
Two tokens stand side by side only where no merge reached over their border while they grew. Of two
given tokens that can be told without what stands around them: merges within one token know nothing
of the other. So a row of tokens in which one pair is never written is no spelling of any text.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np

ENDLESS = (1 << 31) - 1
UNCLEAR = -2
_KEPT_BYTES = 8 << 20  # of answers, a byte a token each


class Merges:
    """How each of V tokens grew out of bytes.

    A merge's *rank* is its place among all of them: the lower, the sooner it is done.

    Attributes:
        last: Shape (V,), int32: the right half of each token; -1 for none, `UNCLEAR` for a token
            that comes about in several ways, or out of such, or of what comes about later: of its
            neighbours nothing is told.
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

    def __init__(self, vocab_size: int, merges: Sequence[tuple[int, int, int]]) -> None:
        """Tabulate merges of a left and a right half into a whole, by rank."""
        first, last, rank = (np.full(vocab_size, -1, np.int32) for _ in range(3))
        ways = Counter(whole for _, _, whole in merges)
        clear = [ways[i] == 0 for i in range(vocab_size)]
        lefts, rights, ranks = [], [], []
        for number, (left, right, whole) in enumerate(merges):
            if clear[left] and clear[right]:
                lefts.append(left)
                rights.append(right)
                ranks.append(number)
                clear[whole] = ways[whole] == 1
            first[whole], last[whole], rank[whole] = left, right, number
        last[~np.array(clear, bool)] = UNCLEAR
        self.last, self.rank = last, rank
        self.behind, self.partners, self.ranks = _grouped(vocab_size, lefts, rights, ranks)
        # From the tokens to what stood at their left borders before, all tokens together.
        all_clear = np.flatnonzero(clear)
        steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
        steps = [(all_clear, all_clear, np.full(len(all_clear), ENDLESS))]
        while len(steps[-1][0]):
            borders, tokens, _ = steps[-1]
            grown = first[borders] >= 0
            borders = borders[grown]
            steps.append((first[borders], tokens[grown], rank[borders]))
        columns = (np.concatenate(column) for column in zip(*steps, strict=True))
        self.within, self.begun, self.until = _grouped(vocab_size, *columns)
        kept = max(16, _KEPT_BYTES // max(1, vocab_size))
        self.never_follow = lru_cache(kept)(self._never_follow)

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
        found = np.zeros(len(self.last), bool)
        for border, end in self._borders(token):
            merges = slice(self.behind[border], self.behind[border + 1])
            in_time = self.ranks[merges] < end
            ranks, partners = self.ranks[merges][in_time], self.partners[merges][in_time]
            starts, counts = self.within[partners], np.diff(self.within)[partners]
            # All of ``begun`` that belongs to these partners, one partner after another.
            places = np.arange(counts.sum()) + np.repeat(starts - counts.cumsum() + counts, counts)
            found[self.begun[places][self.until[places] >= np.repeat(ranks, counts)]] = True
        found.flags.writeable = False
        return found

    def _borders(self, token: int) -> Iterator[tuple[int, int]]:
        """Yield what stood at a token's right border, and the rank that ended it."""
        end = ENDLESS
        while token >= 0 and self.last[token] != UNCLEAR:
            yield token, end
            token, end = int(self.last[token]), int(self.rank[token])


def _grouped(
    groups: int, keys: Sequence[int] | np.ndarray, *columns: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return where each group of entries with one key begins, and the columns by groups, int32."""
    by_key = np.asarray(keys, np.int64)
    order = np.argsort(by_key, kind="stable")
    starts = np.concatenate(([0], np.bincount(by_key, minlength=groups).cumsum()))
    return starts.astype(np.int32), *(np.asarray(column, np.int32)[order] for column in columns)
