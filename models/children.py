"""The tokens that can follow an unfinished word, most probable first."""

from collections.abc import Callable

import numpy as np

from models.selection import at_least, best_first
from models.tokenizers import Tokenizer

_FIRST = 128  # children sorted before anybody asks for more

Every = Callable[[], tuple[np.ndarray, np.ndarray]]


class Children:
    """Tokens and their natural log-probabilities, what stands before them included.

    Attributes:
        ids: The most probable first, of equals the one that was found first.
        log_probs: Theirs.
    """

    __slots__ = ("_every", "ids", "log_probs")

    def __init__(self, ids: list[int], log_probs: list[float], every: Every | None = None) -> None:
        """Keep the first of them; ``every`` returns all, in the order of their ids."""
        self.ids, self.log_probs, self._every = ids, log_probs, every

    @classmethod
    def of(cls, ids: np.ndarray, log_probs: np.ndarray) -> "Children":
        """Return the children ``ids`` (C,) with their log-probabilities."""
        first = best_first(log_probs, most=_FIRST)
        every = (lambda: (ids, log_probs)) if len(first) < len(ids) else None
        return cls(ids[first].tolist(), log_probs[first].tolist(), every)

    def get(self, place: int) -> tuple[int, float] | None:
        """Return the child at ``place``, from 0, and its log-probability; None behind the last."""
        if place == len(self.ids) and self._every is not None:
            ids, log_probs = self._every()
            order = best_first(log_probs, most=len(log_probs))
            self.ids, self.log_probs = ids[order].tolist(), log_probs[order].tolist()
            self._every = None
        return (self.ids[place], self.log_probs[place]) if place < len(self.ids) else None


class ChildFinder:
    """Finds children for one search.

    Attributes:
        floor: Children below this natural log-probability are not needed, and left out.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, words_only: bool, enough: int | None, slack: float
    ) -> None:
        """Describe what is searched for.

        Args:
            tokenizer: Of the model that is asked.
            words_only: No punctuation.
            enough: That so many words of one token are known makes all that is less probable
                needless; None for never.
            slack: Less probable by more than this, nats.
        """
        self.floor = -np.inf
        self._tokenizer, self._enough, self._slack = tokenizer, enough, slack
        # Which tokens may begin a word: whole words, and unfinished pieces.
        self._firsts = tokenizer.word_starts if words_only else tokenizer.unit_starts

    def covering(
        self, log_probs: np.ndarray, before: float, ids: np.ndarray, *, start: bool
    ) -> tuple[Children, float, float]:
        """Look up the children ``ids``.

        Args:
            log_probs: Natural log-probabilities (V,).
            before: Natural log-probability of what stands before them.
            ids: Token ids (C,), int32.
            start: They begin a word.

        Returns:
            Those that can; the probability of all, given what stands before them; and of those that
            finish a word.
        """

        def every() -> tuple[np.ndarray, np.ndarray]:
            fitting = ids[self._firsts[ids]] if start else ids
            return fitting, log_probs[fitting].astype(np.float64) + before

        probabilities = np.exp(log_probs[ids].astype(np.float64))
        finished = float(probabilities @ self._tokenizer.word_ends[ids])
        return Children.of(*every()), float(np.add.reduce(probabilities)), finished

    def any(
        self,
        log_probs: np.ndarray,
        before: float,
        *,
        start: bool,
        root: bool,
        never: np.ndarray | None = None,
    ) -> tuple[Children, float]:
        """Find the children that may be needed.

        Args:
            log_probs: Natural log-probabilities (V,).
            before: Natural log-probability of what stands before them.
            start: They begin a word.
            root: Nothing stands before them; the words among them raise the floor.
            never: Tokens (V,), bool, that are no children whatever their probability.

        Returns:
            The children, and the probability, given what stands before them, of all that finishes
            a word here.
        """
        enough = self._enough if root else None
        allowed = self._firsts if start else self._tokenizer.is_piece
        ends = self._tokenizer.word_ends
        if never is not None:
            allowed, ends = allowed & ~never, np.where(never, np.float32(0), ends)

        def every() -> tuple[np.ndarray, np.ndarray]:
            # A little lower than needed, for these may be float32.
            (ids,) = (log_probs >= self.floor - before - 1e-5).nonzero()
            ids = ids[allowed[ids]]
            logs = log_probs[ids].astype(np.float64) + before
            possible = logs > -np.inf
            return ids[possible], logs[possible]

        if enough:
            self.raise_floor(at_least(log_probs, self._tokenizer.single_ids, enough))
        finished = float(np.dot(np.exp(log_probs), ends))
        return Children.of(*every()), finished

    def know(self, children: Children) -> None:
        """Let the words among the root's children raise the floor."""
        words = self._tokenizer.is_word_end[children.ids]
        self.raise_floor(at_least(np.array(children.log_probs), words, self._enough))

    def raise_floor(self, log_prob: float) -> None:
        """Know that enough words reach ``log_prob``."""
        self.floor = max(self.floor, log_prob - self._slack)
