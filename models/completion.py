"""How a row of tokens goes on, token by token, and how likely each of them was."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from models.forward import Forward, Pass, Program, read
from models.language_model import LanguageModel
from models.networks import State
from models.sampling import Filters, choose, penalise_repetition
from models.selection import best_first
from models.tokenizers import Tokenizer
from models.writer import Writer

IMPOSSIBLE = -9999.0  # natural logarithm that stands for that of 0: numbers are finite
_ROWS = 32  # tokens read at a time where whole distributions come back

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class TokenChoice:
    """A token that was read or generated.

    Attributes:
        token_id: Which.
        log_prob: Its natural log-probability, which no filter touches; None for the first of all.
        top: The most probable tokens in its place, and their natural log-probabilities.
    """

    token_id: int
    log_prob: float | None
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Piece:
    """What was added to one continuation.

    Attributes:
        index: Which continuation.
        text: The text; nothing but the end where only a ``finish_reason`` is told.
        tokens: Generated since the last piece; some of their text may be held back, as it may
            become a stop string.
        finish_reason: Why it ended; None while it goes on.
    """

    index: int
    text: str
    tokens: Sequence[TokenChoice]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completed:
    """One continuation: ``tokens`` are all that were generated, whatever ``text`` leaves out."""

    text: str
    tokens: Sequence[TokenChoice]
    finish_reason: FinishReason

    @property
    def mean_log_prob(self) -> float:
        """The natural log-probability of its tokens over their number; 0 for none."""
        return sum(t.log_prob or 0.0 for t in self.tokens) / max(1, len(self.tokens))


@dataclass(frozen=True)
class Completion:
    """The answer to `complete`: the prompt's tokens, if they were asked for, and what follows."""

    prompt: Sequence[TokenChoice]
    results: Sequence[Completed]


@dataclass(frozen=True)
class Penalties:
    """What is taken from or added to log-probabilities before a token is chosen.

    Attributes:
        frequency: Taken off for each time that a token was generated.
        presence: Taken off once it was.
        bias: Added, by token id.
    """

    frequency: float = 0.0
    presence: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)

    def __call__(self, log_probs: np.ndarray, generated: Sequence[int]) -> np.ndarray:
        """Return the changed natural log-probabilities (V,), up to a constant."""
        if not self.bias and not self.frequency and not self.presence:
            return log_probs
        log_probs = log_probs.copy()
        for token_id, bias in self.bias.items():
            log_probs[token_id] += bias
        for token_id, count in Counter(generated).items():
            log_probs[token_id] -= self.frequency * count + self.presence
        return log_probs


@dataclass
class _Sequence:
    random: np.random.Generator
    writer: Writer = field(init=False)
    tokens: list[TokenChoice] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    state: State | None = None
    told: int = 0  # tokens
    finish_reason: FinishReason | None = None


def complete(
    model: LanguageModel,
    prompt: Sequence[int],
    *,
    behind_bos: bool,
    ends_in_space: bool = False,
    score_prompt: bool = False,
    max_tokens: int = 16,
    n: int = 1,
    filters: Filters,
    penalties: Penalties,
    top: int = 0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    on_prompt: Callable[[Sequence[TokenChoice]], None] | None = None,
    on_piece: Callable[[Piece], None] | None = None,
) -> Program[Completion]:
    """Continue a row of tokens. ``<unk>`` and BOS are never generated; an end of sentence ends it.

    Args:
        model: Whose probabilities are asked for.
        prompt: Token ids. Nothing is read but these.
        behind_bos: BOS is read before them, and is no part of the prompt. Without it ``prompt``
            must not be empty.
        ends_in_space: The text that ``prompt`` was read from, so that what follows begins without.
        score_prompt: Return the prompt's tokens; the first has no log-probability.
        max_tokens: Most tokens to generate; 0 for none.
        n: Continuations.
        filters: How tokens are chosen.
        penalties: Applied before them, but behind the repetition penalty; none touches a score.
        top: How many of the most probable tokens to return beside each token.
        seed: The same seed and arguments give the same continuations; None draws one.
        stop: Strings that end a text; they are not part of it.
        on_prompt: Called with the prompt's tokens before the first piece.
        on_piece: Called with each finished word, and with the end.
    """
    tokenizer = model.tokenizer
    row = [*([tokenizer.bos_id] if behind_bos else []), *prompt]
    read_tokens: list[TokenChoice] = []
    if score_prompt:
        read_tokens, root = yield from _score(row, behind_bos=behind_bos, top=top)
    else:
        root = yield from read(row, None)
    if on_prompt is not None:
        on_prompt(read_tokens)
    sequences = [_Sequence(_random(seed, i)) for i in range(n)]
    for i, sequence in enumerate(sequences):
        emit = None if on_piece is None else partial(_tell, sequence, i, on_piece)
        before = " " if ends_in_space else ""
        sequence.writer = Writer(tokenizer, before, row, stop, emit)
    yield from _extend(
        tokenizer, root, sequences, row, filters, penalties, max_tokens, top, on_piece
    )
    return Completion(
        prompt=read_tokens,
        results=[
            Completed(s.writer.text, s.tokens, s.finish_reason or "length") for s in sequences
        ],
    )


def _score(
    row: Sequence[int], *, behind_bos: bool, top: int
) -> Program[tuple[list[TokenChoice], Pass]]:
    """Return all tokens of ``row``, but for a BOS before it, and the pass behind it."""
    tokens = [] if behind_bos else [TokenChoice(row[0], None)]
    state: State | None = None
    for start in range(0, len(row), _ROWS):
        chunk = row[start : start + _ROWS]
        (result,) = yield [Forward(chunk, state, "all")]
        state = result.state
        following = row[start + 1 : start + 1 + len(chunk)]
        for log_probs, token_id in zip(result.log_probs.numpy(), following, strict=False):
            # By convention the first token is never scored, whatever was read before it.
            tokens.append(
                _chosen(log_probs, token_id, top) if tokens else TokenChoice(token_id, None)
            )
    return tokens, Pass(result.log_probs[-1], result.state)


def _extend(
    tokenizer: Tokenizer,
    root: Pass,
    sequences: Sequence[_Sequence],
    row: Sequence[int],
    filters: Filters,
    penalties: Penalties,
    max_tokens: int,
    top: int,
    on_piece: Callable[[Piece], None] | None,
) -> Program[None]:
    """Generate token by token until every sequence is finished."""
    prompt = frozenset(row) - {tokenizer.bos_id, tokenizer.eos_id}

    def go_on(sequence: _Sequence, here: Pass) -> None:
        log_probs: np.ndarray = here.log_probs.numpy()
        seen = prompt.union(sequence.token_ids) if filters.repetition_penalty != 1 else ()
        # First, while none is positive: multiplied, what was raised above 0 would rise further.
        bent = penalise_repetition(log_probs, seen, filters.repetition_penalty)
        bent = penalties(bent, sequence.token_ids)
        token_id = choose(bent, (), filters, sequence.random, never=tokenizer.unk_id)
        sequence.state = here.state
        sequence.token_ids.append(token_id)
        sequence.tokens.append(_chosen(log_probs, token_id, top))
        if token_id == tokenizer.eos_id or sequence.writer.add(token_id):
            sequence.finish_reason = "stop"
        elif len(sequence.token_ids) == max_tokens:
            sequence.finish_reason = "length"

    def finish(index: int, sequence: _Sequence) -> None:
        if sequence.writer.close():
            sequence.finish_reason = "stop"
        if on_piece is not None:
            rest = sequence.tokens[sequence.told :]
            on_piece(Piece(index, "", rest, sequence.finish_reason or "length"))

    active = list(enumerate(sequences))
    passes = [root] * len(sequences)
    while active and max_tokens:
        for (_, sequence), result in zip(active, passes, strict=True):
            go_on(sequence, result)
        del passes  # their memory serves the next step, while it is in the cache
        for index, sequence in active:
            if sequence.finish_reason:
                finish(index, sequence)
        active = [(index, s) for index, s in active if not s.finish_reason]
        if active:
            passes = yield [Forward(s.token_ids[-1:], s.state, once=True) for _, s in active]
    for index, sequence in active:  # where nothing was to be generated
        finish(index, sequence)


def _tell(sequence: _Sequence, index: int, on_piece: Callable[[Piece], None], text: str) -> None:
    on_piece(Piece(index, text, sequence.tokens[sequence.told :]))
    sequence.told = len(sequence.tokens)


def _chosen(log_probs: np.ndarray, token_id: int, top: int) -> TokenChoice:
    """Look a token and the most probable ones up in natural log-probabilities (V,)."""
    if top == 1:
        best = [int(log_probs.argmax())]
    else:
        best = best_first(log_probs, most=top)[:top] if top else []
    found = [(i, max(float(log_probs[i]), IMPOSSIBLE)) for i in best]
    # BOS is read, and may be written in a prompt, but is never predicted.
    log_prob = float(log_probs[token_id]) if token_id < len(log_probs) else IMPOSSIBLE
    return TokenChoice(token_id, max(log_prob, IMPOSSIBLE), found)


def _random(seed: int | None, index: int) -> np.random.Generator:
    return np.random.default_rng((secrets.randbits(63) if seed is None else seed, index))
