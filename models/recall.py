"""Questions asked of a model that has a history to go by: text that the user wrote before.

Three readers answer, without any training. One begins anew. One repeats what followed in the
history wherever it comes upon the same tokens (`models.history`). One does so too, and its network
has read the history's end before the text. Which of them is right the text itself tells, by Bayes,
token by token, while with a small probability any other becomes right (Herbster and Warmuth 1998)::

    P(x) = sum_r w_r P_r(x),    w_r := (1 - a) w_r P_r(x) / P(x) + a prior_r    behind token x

So distributions sum to one, words are products over their tokens as ever, and a history that has
nothing to do with a text of n tokens costs it 0.36 + 0.006 n nats at most, however wrong it is.

The mixture is made of what passes return: every program runs on it unchanged, a search as exact as
before, and whatever runs programs runs these. A temperature that was asked for comes behind it.
"""

import math
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from models.forward import Forward, Pass, Program, side_by_side
from models.history import STRENGTHS, History, Repeats, Strengths
from models.networks import State
from models.tokenizers import Tokenizer

if TYPE_CHECKING:
    from models.language_model import LanguageModel

READ = 128  # tokens of the history's end that the network reads; all of it is no better
_PIECE = 32  # tokens read at a time, for whole distributions come back
_MOST_TEXTS = 16  # whose weights are remembered, for each history

R = TypeVar("R")
_Text = tuple[tuple[int, ...], ...]  # the tokens of each pass that read it


def recall(model: "LanguageModel", history: str, program: Program[R]) -> Program[R]:
    """Ask a question of a model that knows what the user wrote before.

    A history that is new is tokenized by this call, not when the program runs.

    Args:
        model: Who is asked. It keeps the histories that it was given last in memory.
        history: A line break ends a sentence in it, as its end does. Where there is no text in it,
            the program is returned as it stands.
        program: Any question.
    """
    readers = model.remembered_readers(history)
    return _recalled(readers, program) if readers.history else program


def _recalled(readers: "Readers", program: Program[R]) -> Program[R]:
    with closing(program):
        passes: list[Pass] | None = None
        while True:
            try:
                forwards = next(program) if passes is None else program.send(passes)
            except StopIteration as finished:
                result: R = finished.value
                return result
            passes = yield from side_by_side([readers.read(forward) for forward in forwards])


@dataclass(frozen=True, eq=False)
class _Belief:
    """What the readers expect next, and how far each is believed.

    Attributes:
        weights: Probability (3,) of each reader to be the right one, float64.
        anew: Natural log-probabilities (V,), float32, of the network that begins anew.
        knowing: The same of the network that has read the history.
        repeats: What followed in the history.
    """

    weights: np.ndarray
    anew: np.ndarray
    knowing: np.ndarray
    repeats: Repeats

    def probabilities(self, token_id: int) -> np.ndarray:
        """Return the probability (3,) of one token to each reader, float64."""
        if token_id >= len(self.anew):  # BOS: read, never predicted
            return np.zeros(3)
        anew, knowing = math.exp(self.anew[token_id]), math.exp(self.knowing[token_id])
        kept, share = self.repeats.kept, self.repeats.share(token_id)
        return np.array([anew, kept * anew + share, kept * knowing + share])

    def log_prob(self, token_id: int) -> float:
        """Return the natural log-probability of one token to all readers together."""
        probability = float(self.weights @ self.probabilities(token_id))
        return math.log(probability) if probability else -math.inf

    def mixture(self) -> Tensor:
        """Return the natural log-probabilities (V,), float32, of all readers together."""
        anew, repeating, knowing = self.weights.tolist()
        kept = self.repeats.kept
        mixed = torch.logaddexp(
            torch.from_numpy(self.anew) + math.log(anew + repeating * kept),
            torch.from_numpy(self.knowing) + math.log(knowing * kept),
        )
        shares = torch.from_numpy((repeating + knowing) * self.repeats.shares).log().float()
        at = torch.from_numpy(self.repeats.token_ids).long()
        mixed[at] = torch.logaddexp(mixed[at], shares)
        return mixed


@dataclass(frozen=True, eq=False)
class _Read(State):
    """What the readers have read.

    Attributes:
        anew: State of the network that begins anew; None before it has read anything.
        knowing: State of the network that has read the history.
        recent: The last tokens, as many as a match may take.
        belief: What comes next; None at the start of a text.
        text: All that was read, where what it told is remembered.
    """

    anew: State | None
    knowing: State
    recent: tuple[int, ...]
    belief: _Belief | None
    text: _Text | None

    @property
    def num_bytes(self) -> int:
        """Memory of both states and of what comes next, bytes."""
        found = sum(state.num_bytes for state in (self.anew, self.knowing) if state is not None)
        belief = self.belief
        return found if belief is None else found + belief.anew.nbytes + belief.knowing.nbytes


class Readers:
    """The three readers of a text, two of which know a history.

    Attributes:
        history: What they know.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, strengths: Strengths = STRENGTHS) -> None:
        """Know ``text``."""
        self.history = History(tokenizer, text, strengths)
        self._bos, self._eos = tokenizer.bos_id, tokenizer.eos_id
        shares = (strengths.repeating, strengths.knowing)
        self._prior, self._switching = np.array([1 - sum(shares), *shares]), strengths.switching
        self._weights: dict[_Text, np.ndarray] = {}  # behind the texts that were read last

    def read(self, forward: Forward) -> Program[Pass]:
        """Read what a program asked for, and return what all readers together make of it."""
        token_ids, done, parts = tuple(forward.token_ids), 0, list[Tensor]()
        before = cast(_Read | None, forward.state) or (yield from self._begin())
        here, beliefs, text = before, list[_Belief](), None
        if before.text is not None and forward.want in ("last", "none"):
            text = (*before.text, token_ids)
            known, weights = self._longest_known(before.text, token_ids)
            if known:
                here, beliefs = yield from self._read_on(before, known, weights=weights)
                done = len(known)
        while done < len(token_ids):
            piece = token_ids[done : done + _PIECE]
            here, beliefs = yield from self._read_on(here, piece, once=forward.once)
            if forward.want == "all":
                parts += [belief.mixture()[None] for belief in beliefs]
            elif forward.want == "targets":
                asked = zip(beliefs, forward.targets[done:], strict=False)
                parts.append(torch.tensor([belief.log_prob(target) for belief, target in asked]))
            done += len(piece)
        if forward.want == "last":
            parts = [beliefs[-1].mixture()]
        elif forward.want == "none":
            parts = [torch.empty(0, len(beliefs[-1].anew))]
        if text is not None:
            self._remember(text, beliefs[-1].weights)
            if forward.want == "none":  # the text goes on; what a search tries behind it does not
                here = replace(here, text=text)
        return Pass(torch.cat(parts), here)

    def _begin(self) -> Program[_Read]:
        """Read the history's end; the end of its last sentence is what the text begins with."""
        token_ids = self.history.token_ids[1:-1][-READ:].tolist()
        (end,) = yield [Forward((self._bos, *token_ids), None, "none")]
        return _Read(None, end.state, (), None, ())

    def _read_on(
        self,
        before: _Read,
        token_ids: tuple[int, ...],
        *,
        weights: np.ndarray | None = None,
        once: bool = False,
    ) -> Program[tuple[_Read, list[_Belief]]]:
        """Read a piece of text.

        Args:
            before: What was read before.
            token_ids: At least one.
            weights: The readers' weights behind all of them, where they are known.
            once: See `Forward`.

        Returns:
            What was read now, and the belief behind each token; behind the last alone where its
            weights were known.
        """
        heard = tuple(self._eos if i == self._bos else i for i in token_ids)
        want: Literal["last", "all"] = "last" if weights is not None or len(heard) == 1 else "all"
        anew, knowing = yield [
            Forward(token_ids, before.anew, want, once=once),
            Forward(heard, before.knowing, want, once=once),
        ]
        rows = [np.atleast_2d(result.log_probs.numpy()) for result in (anew, knowing)]  # (T, V)
        recent = (*before.recent, *heard)
        belief, beliefs = before.belief, list[_Belief]()
        for row in range(len(rows[0])):
            behind = len(rows[0]) - row - 1  # tokens that come later in the piece
            now = self._learn(belief, token_ids[row]) if weights is None else weights
            repeats = self.history.repeats(recent[: len(recent) - behind])
            belief = _Belief(now, rows[0][row], rows[1][row], repeats)
            beliefs.append(belief)
        assert belief is not None
        if len(beliefs) > 1:  # the last stays, and must not keep the memory of all
            belief = replace(belief, anew=belief.anew.copy(), knowing=belief.knowing.copy())
        recent = recent[-self.history.longest :]
        return _Read(anew.state, knowing.state, recent, belief, None), beliefs

    def _learn(self, belief: _Belief | None, token_id: int) -> np.ndarray:
        """Return the readers' weights behind a token, given what they expected."""
        if belief is None:
            return self._prior
        likely: np.ndarray = belief.weights * belief.probabilities(token_id)
        total = float(likely.sum())
        weights = likely / total if total > 0 else belief.weights
        return (1 - self._switching) * weights + self._switching * self._prior

    def _longest_known(
        self, before: _Text, token_ids: tuple[int, ...]
    ) -> tuple[tuple[int, ...], np.ndarray | None]:
        """Return the longest known beginning of ``token_ids`` behind a text, and its weights."""
        known = [
            (text[-1], weights)
            for text, weights in list(self._weights.items())
            if text[:-1] == before and token_ids[: len(text[-1])] == text[-1]
        ]
        return max(known, key=lambda pair: len(pair[0]), default=((), None))

    def _remember(self, text: _Text, weights: np.ndarray) -> None:
        """Know what a text told: its next word is asked for again as its letters are typed."""
        self._weights.pop(text, None)
        self._weights[text] = weights
        for old in list(self._weights)[:-_MOST_TEXTS]:
            self._weights.pop(old, None)
