"""The most probable next words, exactly: a best-first search over unfinished words.

A heap holds every known continuation, finished or not, by its probability. A longer piece of text
is never more probable than its beginning, so what leaves the heap finished is more probable than
everything still in it: the words come out in their true order (Dijkstra 1959; for strings over
tokens, Vieira et al. 2024). What was not expanded is reported as mass, and a search that gives up
says so.

A typed prefix restricts the search by string. Its probability, by which the words' are divided, is
the sum over all ways in which tokens cover it.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from models.children import ChildFinder, Children
from models.forward import Forward, Pass, Program
from models.networks import State
from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN

_JOIN = JOIN.encode()
_BATCH = 8  # unfinished words expanded together
_PREFIX_TOLERANCE = 1e-7  # share of a prefix' probability that may stay unsummed
_KEPT_STATE = 96 << 10  # bytes: of a larger one only the root's is kept, and the rest read again
_MOST_TAKEN = 4096  # words looked at once the search gave up
_MOST_SPELLINGS = 4  # a punctuation mark: joined to the left or not, to the right or not


@dataclass(frozen=True)
class FoundWord:
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


class Search:
    """One search for the words behind a text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        limit: int | None,
        prefix: bytes = b"",
        num_words: int = 1,
        words_only: bool = True,
        temper: Callable[[np.ndarray], np.ndarray] = lambda log_probs: log_probs,
        accept: Callable[[str], bool] = lambda text: True,
        most_refused: int = 0,
        most_expansions: int = 4096,
    ) -> None:
        """Describe what is searched for.

        Args:
            tokenizer: Of the model that is asked.
            limit: How many words to find; None for all, which ends where every word is one token.
            prefix: Bytes that the word begins with.
            num_words: Words in a row to find, 1 or more; above 1 without punctuation.
            words_only: No punctuation.
            temper: Applied to each natural log-probabilities (V,) before they are used.
            accept: Whether a finished word counts.
            most_refused: How many words there are, at most, that do not count for it.
            most_expansions: Unfinished words to expand before giving up; what was found until then
                is returned, unproven.
        """
        self.tokenizer, self.limit, self.prefix = tokenizer, limit, prefix
        self.num_words, self.words_only = num_words, words_only
        self.temper, self.accept, self.most_expansions = temper, accept, most_expansions
        # Punctuation adds up over its spellings: those still to come may bring it forward.
        self._slack = 0.0 if words_only else float(np.log(_MOST_SPELLINGS))
        # Single tokens that are certainly enough words: as many as are listed, and their spellings.
        enough = None
        if limit is not None and num_words == 1:
            enough = (limit + most_refused) * (1 if words_only else _MOST_SPELLINGS)
        self._children = ChildFinder(
            tokenizer, words_only=words_only, enough=enough, slack=self._slack
        )
        self._heap: list[_Entry] = []
        self._open: list[_Entry] = []  # shorter than the prefix: not yet known to begin with it
        self._best: list[float] = []  # the ``limit`` highest log-probabilities found, as a heap,
        self._texts: set[str] = set()  # one for each text: further spellings make no second entry
        self._ties = count()
        self._expansions = 0
        self._prefix_mass = 0.0 if prefix else 1.0
        self._finished_mass = 0.0
        self._words: list[FoundWord] = []

    def run(self, root: Pass) -> Program[Found]:
        """Search behind what ``root`` has read, whose log-probabilities are the first piece's."""
        self._expand(root, log_prob=0.0, token_ids=(), word_start=0, text=b"", words=0)

        def forward(node: _Node, token: int) -> Forward:
            if node.state is None:
                return Forward((*node.token_ids, token), root.state)
            return Forward((token,), node.state)

        while batch := self._next_batch():
            if self._expansions + len(batch) > self.most_expansions:
                self._take_finished()
                return self._found(proven=False)
            self._expansions += len(batch)
            passes = yield [forward(node, token) for _, _, node, token in batch]
            for (cost, _, node, token), result in zip(batch, passes, strict=True):
                ended = bool(self.tokenizer.is_word_end[token])
                token_ids = (*node.token_ids, token)
                self._expand(
                    result,
                    log_prob=-cost,
                    token_ids=token_ids,
                    word_start=len(token_ids) if ended else node.word_start,
                    text=b"" if ended else node.text + self.tokenizer.pieces[token],
                    words=node.words + ended,
                )
        return self._found(proven=True)

    def _found(self, *, proven: bool) -> Found:
        mass = self._prefix_mass
        summed = self._open_mass() <= _PREFIX_TOLERANCE * mass
        return Found(
            words=sorted(self._words, key=lambda word: -word.log_prob),
            prefix_log_prob=float(np.log(mass)) if mass > 0 else -np.inf,
            finished_mass=self._finished_mass,
            proven=proven and summed,
        )

    def _next_batch(self) -> list[_Entry]:
        """Take finished words off the heap, and return the unfinished that must be expanded."""
        batch: list[_Entry] = []
        summing = self._expansions < self.most_expansions // 8
        if summing and self._open_mass() > _PREFIX_TOLERANCE * self._prefix_mass:
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
            if not self.tokenizer.is_word_end[token]:
                batch.append(entry)
            elif self._is_wanted(node, token):
                if node.words + 1 < self.num_words:
                    batch.append(entry)
                else:
                    self._finish((*node.token_ids, token), -cost)
        return batch

    def _take_finished(self) -> None:
        """Finish the most probable of the words that wait behind unfinished ones."""
        for _ in range(_MOST_TAKEN):
            if not self._heap or -self._heap[0][0] < self._enough():
                return
            cost, _, node, token = heapq.heappop(self._heap)
            self._push_next_child(node)
            ended = bool(self.tokenizer.is_word_end[token])
            if ended and node.words + 1 == self.num_words and self._is_wanted(node, token):
                self._finish((*node.token_ids, token), -cost)

    def _open_mass(self) -> float:
        return sum(float(np.exp(-entry[0])) for entry in self._open)

    def _enough(self) -> float:
        """Return the log-probability below which nothing enters the list any more."""
        if self.limit is None or len(self._best) < self.limit:
            return -np.inf
        return self._best[0] - self._slack

    def _is_wanted(self, node: _Node, token: int) -> bool:
        """Return whether the word that ``token`` finishes counts, and is written as it should be.

        Whole words in one token were checked once and for all, in `models.children`.
        """
        surface = self.tokenizer.remembered_surface(node.text + self.tokenizer.pieces[token])
        if not self.accept(surface):
            return False
        if not node.text:
            return True
        if self.words_only and not self.tokenizer.is_word(surface):
            return False
        return [*node.token_ids[node.word_start :], token] in self.tokenizer.remembered_spellings(
            surface
        )

    def _finish(self, token_ids: tuple[int, ...], log_prob: float) -> None:
        if self.num_words > 1:
            text = self.tokenizer.decode(token_ids)
        else:
            pieces = self.tokenizer.pieces
            text = self.tokenizer.remembered_surface(b"".join([pieces[i] for i in token_ids]))
        self._words.append(FoundWord(text, log_prob, token_ids))
        if self.limit is not None and text not in self._texts:
            self._texts.add(text)
            heapq.heappush(self._best, log_prob)
            if len(self._best) > self.limit:
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
        source = result.log_probs
        log_probs = self.temper(source.numpy())
        rest = self._rest(text) if not words else b""
        self._children.raise_floor(self._enough())
        beginnings: list[int] = []
        if rest:
            covering, beginnings = self._fitting(rest, at_start=not text)
            children, mass, finished = self._children.covering(
                log_probs, source, log_prob, covering, start=not text
            )
            self._prefix_mass += mass
            if not token_ids:
                self._children.know(children)
        else:
            children, finished = self._children.any(
                log_probs, source, log_prob, start=not text, root=not token_ids
            )
            if not text:
                ended = float(log_probs[self.tokenizer.eos_id])
                self._finished_mass += math.exp(log_prob + ended)
        if words + 1 == self.num_words:
            self._finished_mass += finished
        if not children.ids and not beginnings:
            return
        state = result.state if result.state.num_bytes <= _KEPT_STATE else None
        node = _Node(token_ids, word_start, text, words, state, children)
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
        joined = text.startswith(_JOIN) and not self.prefix.startswith(_JOIN)
        return self.prefix[len(text) - joined :]

    def _fitting(self, rest: bytes, *, at_start: bool) -> tuple[np.ndarray, list[int]]:
        """Return the pieces that cover what is left of the prefix, and those that lead on to it."""
        tokenizer = self.tokenizer
        covering, beginnings = tokenizer.completions(rest), tokenizer.beginnings(rest)
        if at_start and not self.words_only and not self.prefix.startswith(_JOIN):
            joined = _JOIN + rest
            covering = np.concatenate((covering, tokenizer.completions(joined)))
            beginnings = beginnings + tokenizer.beginnings(joined)
        return covering, beginnings
