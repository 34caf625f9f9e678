"""Which character comes next: its probability, summed over the ways in which tokens go on.

What is typed fixes the bytes of its tokens (`models.tokenizers.joined`) but for the end of its last
word, which may go on or be finished. A search over the tokens that fit leads, at each of its nodes,
to the next character, or to a token that does not tell it yet: a finished word, behind which a
space or a mark that touches it comes.
"""

import heapq
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np

from models.errors import InvalidRequestError
from models.forward import Forward, Pass, Program, read
from models.frontier import added
from models.language_model import LanguageModel
from models.networks import State
from models.prefix import split_prefix
from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN, JoinedTokenizer
from models.tokenizers.remembered import remembered
from models.word_probability import Temper, read_head

_JOIN = JOIN.encode()
_BATCH = 8  # nodes read together
_TOLERANCE = 1e-4  # share of the probability that may stay unread
_MOST_READ = 256  # nodes

# Where in the bytes of tokens a text ends: at the start of a unit, within one, behind a join mark
# within one, behind a finished one, behind that and a join mark, or where the next one touches it.
_Place = Literal["start", "within", "joining", "ended", "marked", "touching"]
# What a token leads to: a character, or "" for one that it does not tell; another place; or None
# where it does not agree with what is typed.
_Outcome = str | tuple[_Place] | None


@dataclass(frozen=True)
class Character:
    """A character that may come next, its probability and the natural logarithm of that."""

    text: str
    probability: float
    log_prob: float


def next_character(model: LanguageModel, text: str) -> Program[list[Character]]:
    """Find the probability of each next character, most probable first.

    The rest of the probability, up to 1, is the end of the sentence, characters that take more than
    one token to tell, tokens that are never written side by side (`models.tokenizers.merges`), and
    what the search left unread: a ten-thousandth at most, unless the model is so undecided that it
    gives up before.

    Args:
        model: Whose distribution is asked for.
        text: All that was typed. Behind white space, or nothing, a word begins.

    Raises:
        InvalidRequestError: The model's tokenizer does not keep which words touch.
    """
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, JoinedTokenizer):
        raise InvalidRequestError("model", "must have a tokenizer of kind word or subword")
    *before, typed = re.split(r"(\s)", text)
    context = "".join(before)
    prefix = split_prefix(tokenizer, typed, words_only=False)
    readings = [prefix] if prefix.ended is None else [prefix, prefix.ended]
    same = _same([reading.head_ids for reading in readings])
    row = [*tokenizer.encode_context(context), *prefix.head_ids[:same]]
    start = yield from read(row, None)

    search = _Search(tokenizer)
    for reading in readings:
        root, log_prob = yield from read_head(reading.head_ids[same:], start, Temper(1.0))
        search.expand(root, log_prob, "start", reading.begun)
    while batch := search.next_batch():
        passes = yield [Forward((token_id,), state) for _, _, state, token_id, _, _ in batch]
        for (cost, _, _, token_id, place, rest), result in zip(batch, passes, strict=True):
            search.expand(result, -cost, place, rest, behind=token_id)
    return search.characters()


def _same(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all of them begin with."""
    columns = enumerate(zip(*sequences, strict=False))
    return next((i for i, ids in columns if len({*ids}) > 1), min(map(len, sequences)))


class _Search:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # What nodes tell: their log-probability, and the share of it that each character takes.
        self._told: list[tuple[float, list[tuple[str, float]]]] = []
        self._total = -math.inf  # log-probability of all that agrees with what is typed
        self._read = 0
        self._ties = count()
        self._heap: list[tuple[float, int, State, int, _Place, bytes]] = []

    def next_batch(self) -> list[tuple[float, int, State, int, _Place, bytes]]:
        """Return the most probable tokens that do not tell the character yet."""
        unread = _joined(self._heap)
        every = float(np.logaddexp(self._total, unread))
        if unread <= math.log(_TOLERANCE) + every or self._read >= _MOST_READ:
            return []
        batch = [heapq.heappop(self._heap) for _ in range(min(_BATCH, len(self._heap)))]
        self._read += len(batch)
        return batch

    def expand(
        self,
        here: Pass,
        log_prob: float,
        place: _Place,
        rest: bytes,
        *,
        behind: int | None = None,
    ) -> None:
        """Follow all tokens behind a node; ``rest`` is what they must begin with."""
        # Of the tokens, given the node: a long text is less probable than any float but 0.
        probabilities = np.exp(here.log_probs.numpy().astype(np.float64))  # (V,)
        total = 0.0
        if behind is not None and not self._tokenizer.is_word_end[behind]:
            never = self._tokenizer.merges.never_follow(behind)
            if not rest:
                total = float(probabilities[never].sum())
            probabilities[never] = 0.0
        told: list[tuple[str, float]] = []
        followed: list[tuple[int, _Place, bytes]] = []
        if rest:
            for token_id in self._tokenizer.completions(rest).tolist():
                more = _written(self._tokenizer, token_id)[len(rest) :]
                outcome = _follow("within", more)
                if isinstance(outcome, tuple):
                    followed.append((token_id, outcome[0], b""))
                else:
                    told.append((outcome or "", float(probabilities[token_id])))
            for token_id in self._tokenizer.beginnings(rest):
                left = rest[len(self._tokenizer.pieces[token_id]) :]
                followed.append((token_id, "start", left))
        else:
            characters, groups, leading = _outcomes(self._tokenizer, place)
            mass = np.bincount(groups, weights=probabilities, minlength=len(characters) + 1)
            told = list(zip(characters, mass.tolist(), strict=False))
            followed = [(token_id, to, b"") for token_id, to in leading]
            if place == "ended":  # the sentence may end here; what is typed leaves nothing else out
                total += float(probabilities[self._tokenizer.eos_id])
        self._told.append((log_prob, told))
        self._total = added(self._total, log_prob, total + sum(share for _, share in told))
        for token_id, to, left in followed:
            if (share := float(probabilities[token_id])) > 0:
                cost = -log_prob - math.log(share)
                heapq.heappush(self._heap, (cost, next(self._ties), here.state, token_id, to, left))

    def characters(self) -> list[Character]:
        """Return the characters, given what is typed."""
        total = float(np.logaddexp(self._total, _joined([e for e in self._heap if not e[5]])))
        mass: defaultdict[str, float] = defaultdict(float)
        for log_prob, told in self._told:
            for text, share in told:
                if share > 0:
                    mass[text] += math.exp(log_prob + math.log(share) - total)
        found = [
            Character(text, share, math.log(share))
            for text, share in mass.items()
            if text and share > 1e-12
        ]
        return sorted(found, key=lambda character: (-character.probability, character.text))


def _joined(entries: Sequence[tuple[Any, ...]]) -> float:
    """Return the log-probability of what entries of a heap lead to."""
    return float(np.logaddexp.reduce([-entry[0] for entry in entries], initial=-np.inf))


def _written(tokenizer: Tokenizer, token_id: int) -> bytes:
    end = b" " if tokenizer.is_word_end[token_id] else b""
    return tokenizer.pieces[token_id] + end


@remembered(64)
def _outcomes(
    tokenizer: Tokenizer, place: _Place
) -> tuple[list[str], np.ndarray, list[tuple[int, _Place]]]:
    """Return what each token leads to from a place.

    Returns:
        The characters; for each token (V,) the index of its character, or their number if it has
        none; and the tokens that lead to another place.
    """
    outcomes = [_follow(place, _written(tokenizer, i)) for i in range(tokenizer.vocab_size)]
    outcomes[tokenizer.eos_id] = None
    if tokenizer.unk_id is not None and place != "ended":
        outcomes[tokenizer.unk_id] = ""
    characters = sorted({outcome for outcome in outcomes if isinstance(outcome, str)})
    index = {character: i for i, character in enumerate(characters)}
    groups = [index.get(o, len(index)) if isinstance(o, str) else len(index) for o in outcomes]
    followed = [(i, o[0]) for i, o in enumerate(outcomes) if isinstance(o, tuple)]
    return characters, np.array(groups), followed


def _follow(place: _Place, written: bytes) -> _Outcome:
    """Return the first character that bytes add to the text, or the place that they lead to."""
    for i in range(len(written)):
        byte = written[i : i + 1]
        if place == "ended":
            if byte != _JOIN:
                return " "
            place = "marked"
        elif place == "within" and byte == b" ":
            place = "ended"
        elif place == "within" and byte == _JOIN:
            place = "joining"
        elif place == "joining":
            if byte != b" ":
                return ""  # a join mark in the text itself
            place = "touching"
        elif byte in (b" ", _JOIN):
            # An empty unit; behind a space that was typed none can touch what stands before.
            return None if place == "start" else ""
        else:
            return _character(written[i:])
    return (place,)


def _character(written: bytes) -> str:
    """Return the character that bytes begin with; nothing where it takes more of them."""
    first = written[0]
    length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    try:
        return written[:length].decode()
    except UnicodeDecodeError:
        return ""
