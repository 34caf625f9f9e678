"""What a search over unfinished words is asked, what it keeps meanwhile, and what it finds.

There are two frontiers, which find the same words in the same order, with the same bits of
log-probability: `models.plain_frontier` for any numbers, and `models.native.search`, much faster.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np

from models.forward import Forward, Pass
from models.networks import State
from models.tokenizers import Tokenizer
from models.tokenizers.remembered import remembered

PREFIX_TOLERANCE = math.log(1e-7)  # of the share of a prefix that may stay unsummed
_KEPT_STATE = 96 << 10  # bytes: of a larger one only the root's is kept, and the rest read again
_MOST_SPELLINGS = 4  # a punctuation mark: joined to the left or not, to the right or not


class FoundWord(NamedTuple):
    """A finished word or phrase: its text, natural log-probability and spelling."""

    text: str
    log_prob: float
    token_ids: tuple[int, ...]


@dataclass
class Found:
    """What a search found.

    Attributes:
        words: Most probable first; for a typed prefix, their joint probabilities with it.
        prefix_log_prob: Natural log-probability of the typed prefix; 0 for none, -inf where nothing
            that may be written covers it.
        finished_log_prob: The same of all finished outcomes that were seen, in the list or not.
        proven: The list is in true order and complete; False only where the search gave up.
    """

    words: list[FoundWord] = field(default_factory=list)
    prefix_log_prob: float = 0.0
    finished_log_prob: float = -math.inf
    proven: bool = True

    @classmethod
    def of(
        cls,
        words: list[FoundWord],
        *,
        prefix_log_prob: float,
        finished_log_prob: float,
        open_log_prob: float,
        proven: bool,
    ) -> "Found":
        """Put what was found in order; words of one probability stay as they were found.

        Args:
            words: In any order.
            prefix_log_prob: Of the prefix, as far as it was summed.
            finished_log_prob: As the attribute.
            open_log_prob: Of what is shorter than the prefix and was not expanded.
            proven: The search did not give up.
        """
        return cls(
            words=sorted(words, key=attrgetter("log_prob"), reverse=True),
            prefix_log_prob=prefix_log_prob,
            finished_log_prob=finished_log_prob,
            proven=proven and open_log_prob <= PREFIX_TOLERANCE + prefix_log_prob,
        )


def added(log_prob: float, before: float, share: float) -> float:
    """Return the natural logarithm of a sum of two probabilities.

    A long prefix is less probable than any float that is not 0: masses are kept as logarithms.

    Args:
        log_prob: Of the one.
        before: Of what the other is a share of.
        share: That it is.
    """
    return float(np.logaddexp(log_prob, before + math.log(share))) if share > 0 else log_prob


@dataclass(eq=False)
class Question:
    """What a search is for.

    Attributes:
        tokenizer: Of the model that is asked.
        limit: How many words to find, at least 1; None for all, which ends where every word is one
            token.
        prefix: Bytes that the word begins with.
        num_words: Words in a row to find, 1 or more; above 1 without punctuation.
        words_only: No punctuation.
        temper: Applied to each natural log-probabilities (V,) before they are used; None for
            nothing.
        accept: Whether a finished word counts; None for all.
        most_refused: How many words there are, at most, that do not count for it.
        most_expansions: Unfinished words to expand before giving up; what was found until then is
            returned, unproven.
    """

    tokenizer: Tokenizer
    _: KW_ONLY
    limit: int | None
    prefix: bytes = b""
    num_words: int = 1
    words_only: bool = True
    temper: Callable[[np.ndarray], np.ndarray] | None = None
    accept: Callable[[str], bool] | None = None
    most_refused: int = 0
    most_expansions: int = 4096

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to find."""
        if self.num_words < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError("limit and num_words must be at least 1")

    @property
    def slack(self) -> float:
        """How much more probable a word may become than it was found: nats.

        Punctuation adds up over its spellings: those still to come may bring it forward.
        """
        return 0.0 if self.words_only else float(np.log(_MOST_SPELLINGS))

    @property
    def enough(self) -> int | None:
        """Single tokens that are certainly enough words; None for unknown.

        As many as are listed, and their spellings.
        """
        if self.limit is None or self.num_words > 1:
            return None
        return (self.limit + self.most_refused) * (1 if self.words_only else _MOST_SPELLINGS)


Written = Callable[[tuple[int, ...]], str | None]


@remembered(2)
def reader_of_words(tokenizer: Tokenizer, words_only: bool) -> Written:
    """Return what tells how a finished word reads: None for one that is not written so, or no word.

    One token alone is not checked: those that a search looks at were, once and for all. Neither are
    letters and digits where pairs tell (`Tokenizer.pairs_spell`): of the tokens that are asked for
    none stands behind one that it never follows.

    Args:
        tokenizer: Whose tokens they are.
        words_only: No punctuation.
    """
    pairs_spell = tokenizer.pairs_spell

    @lru_cache(1 << 14)  # a few megabytes
    def written(token_ids: tuple[int, ...]) -> str | None:
        word = b"".join([tokenizer.pieces[i] for i in token_ids])
        if pairs_spell and word.isalnum():  # of ASCII
            return word.decode()
        text = tokenizer.surface(word)
        if len(token_ids) > 1:
            if words_only and not tokenizer.is_word(text):
                return None
            if list(token_ids) not in tokenizer.spellings(text):
                return None
        return text

    return written


class Frontier(Protocol):
    """The state of a search, begun behind what a root has read."""

    def ask(self) -> list[Forward]:
        """Go on, and return what must be read next; nothing where the search is over."""

    def tell(self, passes: Sequence[Pass]) -> None:
        """Know what was asked for, in the same order."""

    def found(self) -> Found:
        """Return what was found, once the search is over."""


def kept_state(state: State) -> State | None:
    """Return a state that is to be kept with what has read it; None for one too large."""
    return state if state.num_bytes <= _KEPT_STATE else None
