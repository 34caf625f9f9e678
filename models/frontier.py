"""What waits in a search over unfinished words, and what it found: in Python, for any numbers.

`models.native.search` does the same in the library, and much faster: it gives the same words in the
same order, with the same bits of log-probability.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from itertools import count
from operator import attrgetter
from typing import NamedTuple, Protocol

import numpy as np

from models.children import ChildFinder, Children
from models.forward import Forward, Pass
from models.networks import State
from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN
from models.tokenizers.remembered import remembered

PREFIX_TOLERANCE = 1e-7  # share of a prefix' probability that may stay unsummed
_JOIN = JOIN.encode()
_BATCH = 8  # unfinished words expanded together
_KEPT_STATE = 96 << 10  # bytes: of a larger one only the root's is kept, and the rest read again
_MOST_TAKEN = 4096  # words looked at once the search gave up
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
        prefix_log_prob: Natural log-probability of the typed prefix; 0 for none, -inf where no
            token sequence covers it.
        finished_mass: Probability of all finished outcomes that were seen, in the list or not.
        proven: The list is in true order and complete; False only where the search gave up.
    """

    words: list[FoundWord] = field(default_factory=list)
    prefix_log_prob: float = 0.0
    finished_mass: float = 0.0
    proven: bool = True

    @classmethod
    def of(
        cls,
        words: list[FoundWord],
        *,
        prefix_mass: float,
        finished_mass: float,
        open_mass: float,
        proven: bool,
    ) -> "Found":
        """Put what was found in order; words of one probability stay as they were found.

        Args:
            words: In any order.
            prefix_mass: Probability of the prefix, as far as it was summed.
            finished_mass: As the attribute.
            open_mass: Probability of what is shorter than the prefix and was not expanded.
            proven: The search did not give up.
        """
        return cls(
            words=sorted(words, key=attrgetter("log_prob"), reverse=True),
            prefix_log_prob=float(np.log(prefix_mass)) if prefix_mass > 0 else -np.inf,
            finished_mass=finished_mass,
            proven=proven and open_mass <= PREFIX_TOLERANCE * prefix_mass,
        )


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

    One token alone is not checked: those that a search looks at were, once and for all.

    Args:
        tokenizer: Whose tokens they are.
        words_only: No punctuation.
    """

    @lru_cache(1 << 14)  # a few megabytes
    def written(token_ids: tuple[int, ...]) -> str | None:
        text = tokenizer.surface(b"".join([tokenizer.pieces[i] for i in token_ids]))
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


@dataclass(eq=False)
class _Node:
    """An expanded beginning; each of its children is one token longer.

    Attributes:
        token_ids: Read since the search began.
        word_start: Index in them of the current word's first token.
        text: Bytes of the current word, a join mark included.
        words: How many words were finished before it.
        state: What the network has read; None where that would take too much room.
        children: The tokens that may follow.
        taken: How many of them have left the heap or wait in it.
    """

    token_ids: tuple[int, ...]
    word_start: int
    text: bytes
    words: int
    state: State | None
    children: Children
    taken: int = 0


# Negative log-probability, a tie breaker, the parent, the child's last token.
_Entry = tuple[float, int, _Node, int]


class PlainFrontier:
    """The frontier in Python and numpy."""

    def __init__(self, question: Question, root: Pass) -> None:
        """Begin behind ``root``, whose log-probabilities are the first piece's."""
        self._question, self._tokenizer, self._root = question, question.tokenizer, root.state
        self._slack = question.slack
        self._written = reader_of_words(question.tokenizer, question.words_only)
        self._children = ChildFinder(
            question.tokenizer,
            words_only=question.words_only,
            enough=question.enough,
            slack=self._slack,
        )
        self._heap: list[_Entry] = []
        self._open: list[_Entry] = []  # shorter than the prefix: not yet known to begin with it
        self._best: list[float] = []  # the ``limit`` highest log-probabilities found, as a heap,
        self._texts: set[str] = set()  # one for each text: further spellings make no second entry
        self._ties = count()
        self._batch: list[_Entry] = []
        self._expansions = 0
        self._prefix_mass = 0.0 if question.prefix else 1.0
        self._finished_mass = 0.0
        self._words: list[FoundWord] = []
        self._proven = True
        self._expand(root, log_prob=0.0, token_ids=(), word_start=0, text=b"", words=0)

    def ask(self) -> list[Forward]:
        """Go on, and return what must be read next; nothing where the search is over."""
        self._batch = self._next_batch()
        if self._expansions + len(self._batch) > self._question.most_expansions:
            self._take_finished()
            self._batch, self._proven = [], False
        self._expansions += len(self._batch)
        return [
            Forward((*node.token_ids, token), self._root)
            if node.state is None
            else Forward((token,), node.state)
            for _, _, node, token in self._batch
        ]

    def tell(self, passes: Sequence[Pass]) -> None:
        """Know what was asked for, in the same order."""
        for (cost, _, node, token), result in zip(self._batch, passes, strict=True):
            ended = bool(self._tokenizer.is_word_end[token])
            token_ids = (*node.token_ids, token)
            self._expand(
                result,
                log_prob=-cost,
                token_ids=token_ids,
                word_start=len(token_ids) if ended else node.word_start,
                text=b"" if ended else node.text + self._tokenizer.pieces[token],
                words=node.words + ended,
            )

    def found(self) -> Found:
        """Return what was found, once the search is over."""
        return Found.of(
            self._words,
            prefix_mass=self._prefix_mass,
            finished_mass=self._finished_mass,
            open_mass=self._open_mass(),
            proven=self._proven,
        )

    def _next_batch(self) -> list[_Entry]:
        """Take finished words off the heap, and return the unfinished that must be expanded."""
        batch: list[_Entry] = []
        summing = self._expansions < self._question.most_expansions // 8
        if summing and self._open_mass() > PREFIX_TOLERANCE * self._prefix_mass:
            while self._open and len(batch) < _BATCH:
                batch.append(heapq.heappop(self._open))
            return batch
        while len(batch) < _BATCH:
            source = min(
                (h for h in (self._heap, self._open) if h), key=lambda h: h[0], default=None
            )
            if source is None or -source[0][0] < self._enough():
                break
            entry = heapq.heappop(source)
            cost, _, node, token = entry
            if source is self._heap:
                self._push_next_child(node)
            if not self._tokenizer.is_word_end[token]:
                batch.append(entry)
            elif (text := self._word(node, token)) is not None:
                if node.words + 1 < self._question.num_words:
                    batch.append(entry)
                else:
                    self._finish(text, (*node.token_ids, token), -cost)
        return batch

    def _take_finished(self) -> None:
        """Finish the most probable of the words that wait behind unfinished ones."""
        for _ in range(_MOST_TAKEN):
            if not self._heap or -self._heap[0][0] < self._enough():
                return
            cost, _, node, token = heapq.heappop(self._heap)
            self._push_next_child(node)
            last = node.words + 1 == self._question.num_words
            if self._tokenizer.is_word_end[token] and last:
                text = self._word(node, token)
                if text is not None:
                    self._finish(text, (*node.token_ids, token), -cost)

    def _open_mass(self) -> float:
        return sum(math.exp(-entry[0]) for entry in self._open)

    def _enough(self) -> float:
        """Return the log-probability below which nothing enters the list any more."""
        limit = self._question.limit
        if limit is None or len(self._best) < limit:
            return -np.inf
        return self._best[0] - self._slack

    def _word(self, node: _Node, token: int) -> str | None:
        """Return the word that ``token`` finishes, if it counts."""
        text = self._written((*node.token_ids[node.word_start :], token))
        accept = self._question.accept
        return None if text is None or (accept and not accept(text)) else text

    def _finish(self, text: str, token_ids: tuple[int, ...], log_prob: float) -> None:
        if self._question.num_words > 1:
            text = self._tokenizer.decode(token_ids)
        self._words.append(FoundWord(text, log_prob, token_ids))
        if self._question.limit is not None and text not in self._texts:
            self._texts.add(text)
            heapq.heappush(self._best, log_prob)
            if len(self._best) > self._question.limit:
                heapq.heappop(self._best)

    def _expand(
        self,
        result: Pass,
        *,
        log_prob: float,
        token_ids: tuple[int, ...],
        word_start: int,
        text: bytes,
        words: int,
    ) -> None:
        """Put the children of an unfinished beginning on the heaps, and count what is finished."""
        log_probs = result.log_probs.numpy()
        if self._question.temper:
            log_probs = self._question.temper(log_probs)
        rest = self._rest(text) if not words else b""
        self._children.raise_floor(self._enough())
        beginnings: list[int] = []
        if rest:
            covering, beginnings = self._fitting(rest, at_start=not text)
            children, mass, finished = self._children.covering(
                log_probs, log_prob, covering, start=not text
            )
            self._prefix_mass += mass
            if not token_ids:
                self._children.know(children)
        else:
            children, finished = self._children.any(
                log_probs, log_prob, start=not text, root=not token_ids
            )
            if not text:
                ended = float(log_probs[self._tokenizer.eos_id])
                self._finished_mass += math.exp(log_prob + ended)
        if words + 1 == self._question.num_words:
            self._finished_mass += finished
        if not children.ids and not beginnings:
            return
        node = _Node(token_ids, word_start, text, words, kept_state(result.state), children)
        self._push_next_child(node)
        for token in beginnings:
            entry = (-log_prob - float(log_probs[token]), next(self._ties), node, token)
            heapq.heappush(self._open, entry)

    def _push_next_child(self, node: _Node) -> None:
        child = node.children.get(node.taken)
        if child is not None:
            token, log_prob = child
            node.taken += 1
            heapq.heappush(self._heap, (-log_prob, next(self._ties), node, token))

    def _rest(self, text: bytes) -> bytes:
        """Return what is left of the prefix behind ``text``, a join mark in front of it aside."""
        prefix = self._question.prefix
        joined = text.startswith(_JOIN) and not prefix.startswith(_JOIN)
        return prefix[len(text) - joined :]

    def _fitting(self, rest: bytes, *, at_start: bool) -> tuple[np.ndarray, list[int]]:
        """Return the pieces that cover what is left of the prefix, and those that lead on to it."""
        tokenizer, question = self._tokenizer, self._question
        covering, beginnings = tokenizer.completions(rest), tokenizer.beginnings(rest)
        if at_start and not question.words_only and not question.prefix.startswith(_JOIN):
            joined = _JOIN + rest
            covering = np.concatenate((covering, tokenizer.completions(joined)))
            beginnings = beginnings + tokenizer.beginnings(joined)
        return covering, beginnings
