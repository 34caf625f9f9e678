"""The frontier of a search in Python and numpy: tempered or not, with the library or without."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from models.children import ChildFinder, Children
from models.forward import Forward, Pass
from models.frontier import (
    PREFIX_TOLERANCE,
    Found,
    FoundWord,
    Question,
    added,
    kept_state,
    reader_of_words,
)
from models.networks import State
from models.tokenizers.joined import JOIN

_JOIN = JOIN.encode()
_BATCH = 8  # unfinished words expanded together
_MOST_TAKEN = 4096  # words looked at once the search gave up


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
        self._prefix_log_prob = -math.inf if question.prefix else 0.0
        self._finished_log_prob = -math.inf
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
            prefix_log_prob=self._prefix_log_prob,
            finished_log_prob=self._finished_log_prob,
            open_log_prob=self._open_log_prob(),
            proven=self._proven,
        )

    def _next_batch(self) -> list[_Entry]:
        """Take finished words off the heap, and return the unfinished that must be expanded."""
        batch: list[_Entry] = []
        summing = self._expansions < self._question.most_expansions // 8
        if summing and self._open_log_prob() > PREFIX_TOLERANCE + self._prefix_log_prob:
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

    def _open_log_prob(self) -> float:
        if not self._open:
            return -math.inf
        least = self._open[0][0]
        return math.log(sum(math.exp(least - entry[0]) for entry in self._open)) - least

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
        never = self._tokenizer.merges.never_follow(token_ids[-1]) if text else None
        self._children.raise_floor(self._enough())
        beginnings: list[int] = []
        if rest:
            covering, beginnings = self._fitting(rest, at_start=not text)
            if never is not None:
                covering = covering[~never[covering]]
                beginnings = [i for i in beginnings if not never[i]]
            beginnings = [i for i in beginnings if self._leads_on(text, i)]
            children, mass, finished = self._children.covering(
                log_probs, log_prob, covering, start=not text
            )
            self._prefix_log_prob = added(self._prefix_log_prob, log_prob, mass)
            if not token_ids:
                self._children.know(children)
        else:
            children, finished = self._children.any(
                log_probs, log_prob, start=not text, root=not token_ids, never=never
            )
            if not text:
                ended = math.exp(log_probs[self._tokenizer.eos_id])
                self._finished_log_prob = added(self._finished_log_prob, log_prob, ended)
        if words + 1 == self._question.num_words:
            self._finished_log_prob = added(self._finished_log_prob, log_prob, finished)
        if not children.ids and not beginnings:
            return
        node = _Node(token_ids, word_start, text, words, kept_state(result.state), children)
        self._push_next_child(node)
        for token in beginnings:
            entry = (-log_prob - float(log_probs[token]), next(self._ties), node, token)
            heapq.heappush(self._open, entry)

    def _leads_on(self, text: bytes, token: int) -> bool:
        """Return whether anything that fits the prefix is ever written behind a piece."""
        rest = self._rest(text + self._tokenizer.pieces[token])
        covering, beginnings = self._fitting(rest, at_start=False)
        never = self._tokenizer.merges.never_follow(token)
        return not (never[covering].all() and never[beginnings].all())

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
