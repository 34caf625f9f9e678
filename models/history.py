"""Text that the user wrote before, and what it says comes next: a cache model of suffixes.

What followed the last tokens wherever they occurred in the history may follow again (Kuhn and De
Mori 1990), the more likely the longer the match and the surer what followed it. Each length of
match backs off to the next shorter one, with the shares of prediction by partial matching (Witten
and Bell 1991), and the shortest to the network::

    P_k(x) = (1 - s_k) P_k-1(x) + s_k c_k(x) / n_k,    s_k = n_k / (n_k + strength_k d_k)

where the last k tokens occurred n_k times, c_k(x) times of them before x, and d_k different tokens
followed; P_0 is the network's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.tokenizers import Tokenizer


@dataclass(frozen=True)
class Strengths:
    """How much a history counts.

    The defaults suit both models that ship. They were fitted on 2,000 lines each of the validation
    splits of dialogue, sentences and WikiText-2, with related and unrelated histories, and rounded;
    no history of another kind of text cost more than 3% of perplexity per word there.
    ``python -m training.fit_history`` fits them anew.

    Attributes:
        repeating: Probability, before anything of a text is read, that it repeats the history's
            words and names.
        knowing: Probability that it also goes on from the history.
        switching: Probability at each token that this is drawn anew.
        between: What matches of 1, 2, … tokens are weighed against where a word begins: matches of
            which one half counts, for each different token that followed.
        within: The same inside a word.
    """

    repeating: float = 0.15
    knowing: float = 0.15
    switching: float = 0.02
    between: tuple[float, ...] = (25.0, 12.0, 4.8)
    within: tuple[float, ...] = (3.0, 0.6, 0.6)


STRENGTHS = Strengths()


@dataclass(frozen=True)
class Repeats:
    """What followed the last tokens in the history: a sparse distribution over next tokens.

    Attributes:
        kept: Share that stays with the network's distribution.
        token_ids: Distinct ids (N,) that followed, ascending.
        shares: Probability that each takes, (N,), float64; with ``kept`` they sum to one.
    """

    kept: float
    token_ids: np.ndarray
    shares: np.ndarray

    def share(self, token_id: int) -> float:
        """Return the probability that one token takes."""
        at = int(self.token_ids.searchsorted(token_id))
        found = at < len(self.token_ids) and self.token_ids[at] == token_id
        return float(self.shares[at]) if found else 0.0


class History:
    """A history, tokenized.

    Attributes:
        token_ids: Its tokens behind an end of sentence, and one behind them, (N,), int32.
        strengths: How much its repetitions count.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, strengths: Strengths = STRENGTHS) -> None:
        """Take ``text``, in which a line break ends a sentence, as its end does."""
        token_ids = tokenizer.encode_context(text)[1:]
        while token_ids and token_ids[-1] == tokenizer.eos_id:
            token_ids.pop()
        self.strengths = strengths
        self.token_ids = np.array([tokenizer.eos_id, *token_ids, tokenizer.eos_id], dtype=np.int32)
        self._inside = ~tokenizer.is_word_end
        self._inside[tokenizer.eos_id] = False

    def __bool__(self) -> bool:
        """Return whether there is any text in it."""
        return len(self.token_ids) > 2

    @property
    def longest(self) -> int:
        """Most tokens of a match."""
        return len(self.strengths.between)

    def is_inside(self, token_id: int) -> bool:
        """Return whether what comes behind this token goes on with its word."""
        return bool(self._inside[token_id])

    def matches(self, recent: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the places of what followed the last 1, 2, … tokens of ``recent``, while there are.

        Args:
            recent: Tokens of the text that were read last, an end of sentence before its first.
        """
        token_ids = self.token_ids
        at = np.flatnonzero(token_ids[:-1] == recent[-1]) + 1
        for length in range(2, min(self.longest, len(recent)) + 1):
            if len(at):
                yield at
            at = at[at >= length]
            at = at[token_ids[at - length] == recent[-length]]
        if len(at):
            yield at

    def repeats(self, recent: Sequence[int]) -> Repeats:
        """Return what followed the last tokens of ``recent``; see `matches`."""
        inside = self.is_inside(recent[-1])
        strengths = self.strengths.within if inside else self.strengths.between
        kept, places, shares = 1.0, np.empty(0, dtype=np.int64), np.empty(0)
        for at, strength in zip(self.matches(recent), strengths, strict=False):
            if not len(places):  # the shortest matches, which all longer ones are among
                places, shares = at, np.zeros(len(at))
            different = len(set(self.token_ids[at].tolist()))
            share = len(at) / (len(at) + strength * different)
            kept *= 1 - share
            shares *= 1 - share
            shares[places.searchsorted(at)] += share / len(at)
        token_ids, inverse = np.unique(self.token_ids[places], return_inverse=True)
        return Repeats(kept, token_ids, np.bincount(inverse, shares, len(token_ids)))
