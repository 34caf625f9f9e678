"""How a text goes on: greedy, sampled or beam search."""

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from models.beam import Hypothesis, beam_search
from models.errors import InvalidRequestError
from models.forward import Forward, Pass, Program, read
from models.language_model import LanguageModel
from models.networks import State
from models.sampling import Filters, choose
from models.tokenizers import Tokenizer
from models.writer import Writer


@dataclass(frozen=True)
class TokenScore:
    """A generated token: its text, and its natural log-probability, which no filter touches."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Continuation:
    """One way in which the text goes on.

    Attributes:
        text: The continuation only; the prompt with this behind it reads right, unless the prompt
            ends in a space and the continuation begins with a mark that would touch its last word.
        finish_reason: ``stop`` at an end of sentence or a stop string, ``length`` at the
            most tokens.
        log_prob: Natural log-probability of all its tokens, an end of sentence included.
        tokens: One by one; the end of sentence, where it was reached, has an empty text.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    log_prob: float
    tokens: list[TokenScore]


@dataclass(frozen=True)
class Generation:
    """The answer to `generate`.

    Attributes:
        results: As many as were asked for.
        prompt_tokens: Tokens read, BOS included.
        completion_tokens: Tokens generated, ends of sentences included.
    """

    results: list[Continuation]
    prompt_tokens: int
    completion_tokens: int


@dataclass
class _Sequence:
    """A continuation under way."""

    writer: Writer
    random: np.random.Generator
    state: State
    token_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None


def generate(
    model: LanguageModel,
    text: str,
    *,
    max_tokens: int = 32,
    strategy: Literal["greedy", "sample", "beam"] = "greedy",
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    num_beams: int = 4,
    n: int = 1,
    stop: Sequence[str] = (),
    on_text: Callable[[int, str], None] | None = None,
) -> Program[Generation]:
    """Continue a text. ``<unk>`` and BOS are never generated; an end of sentence ends it.

    Args:
        model: Whose probabilities are asked for.
        text: What was written so far; may be empty. A line break ends a sentence.
        max_tokens: Most tokens to generate, at least 1.
        strategy: ``greedy`` takes the most probable token, ``sample`` draws, ``beam`` keeps the
            most probable sequences (`models.beam`).
        temperature: For sampling; 0 is greedy.
        top_k: For sampling, see `models.sampling.Filters`, as the next three.
        top_p: See there.
        min_p: See there.
        repetition_penalty: Also for greedy; applies to tokens of the prompt and generated ones.
        seed: The same seed and arguments give the same text; None draws one.
        num_beams: Sequences that beam search keeps.
        n: Continuations to return; ``num_beams`` at most for beam search.
        stop: Strings that end the text; they are not part of it.
        on_text: Called with the index of a continuation and the text that was added to it, word by
            word; not for beam search.

    Raises:
        InvalidRequestError: Arguments that do not go together.
    """
    filters = Filters(
        0.0 if strategy == "greedy" else temperature, top_k, top_p, min_p, repetition_penalty
    )
    _check(filters, strategy, max_tokens, seed, num_beams, n, stop)
    tokenizer = model.tokenizer
    prompt = tokenizer.encode_context(text)
    root = yield from read(prompt, None)

    def writer(index: int) -> Writer:
        emit = None if on_text is None or strategy == "beam" else partial(on_text, index)
        return Writer(tokenizer, text, prompt, stop, emit)

    if strategy == "beam":

        def is_stopped(token_ids: Sequence[int]) -> bool:
            whole = bool(stop) and bool(tokenizer.is_word_end[token_ids[-1]])
            return whole and writer(0).write(token_ids)

        hypotheses = yield from beam_search(
            root,
            eos_id=tokenizer.eos_id,
            never=[] if tokenizer.unk_id is None else [tokenizer.unk_id],
            num_beams=num_beams,
            max_tokens=max_tokens,
            is_stopped=is_stopped,
        )
        sequences = [
            _written(tokenizer, hypothesis, root, writer(i))
            for i, hypothesis in enumerate(hypotheses[:n])
        ]
    else:
        sequences = [_Sequence(writer(i), _random(seed, i), root.state) for i in range(n)]
        yield from _extend(tokenizer, root, sequences, prompt, filters, max_tokens)
    return Generation(
        results=[_continuation(tokenizer, sequence) for sequence in sequences],
        prompt_tokens=len(prompt),
        completion_tokens=sum(len(sequence.token_ids) for sequence in sequences),
    )


def _check(
    filters: Filters,
    strategy: str,
    max_tokens: int,
    seed: int | None,
    num_beams: int,
    n: int,
    stop: Sequence[str],
) -> None:
    wrong = [
        (strategy not in ("greedy", "sample", "beam"), "strategy", "is unknown"),
        (max_tokens < 1, "max_tokens", "must be at least 1"),
        (seed is not None and seed < 0, "seed", "must not be negative"),
        (num_beams < 1, "num_beams", "must be at least 1"),
        (n < 1, "n", "must be at least 1"),
        (strategy == "beam" and n > num_beams, "n", "must be at most num_beams for beam search"),
        (not all(stop), "stop", "must not contain an empty string"),
        (not filters.temperature >= 0, "temperature", "must not be negative"),
        (filters.top_k is not None and filters.top_k < 1, "top_k", "must be at least 1"),
        (not 0 <= filters.top_p <= 1, "top_p", "must be between 0 and 1"),
        (not 0 <= filters.min_p <= 1, "min_p", "must be between 0 and 1"),
        (
            not 0 < filters.repetition_penalty < math.inf,
            "repetition_penalty",
            "must be above 0 and finite",
        ),
    ]
    for is_wrong, name, message in wrong:
        if is_wrong:
            raise InvalidRequestError(name, message)


def _extend(
    tokenizer: Tokenizer,
    root: Pass,
    sequences: list[_Sequence],
    prompt: Sequence[int],
    filters: Filters,
    max_tokens: int,
) -> Program[None]:
    """Generate token by token until every sequence is finished."""
    penalised = frozenset(prompt) - {tokenizer.bos_id, tokenizer.eos_id}

    def go_on(sequence: _Sequence, here: Pass) -> None:
        log_probs: np.ndarray = here.log_probs.numpy()
        seen: Collection[int] = ()
        if filters.repetition_penalty != 1:
            seen = penalised.union(sequence.token_ids)
        token = choose(log_probs, seen, filters, sequence.random, never=tokenizer.unk_id)
        sequence.state = here.state
        sequence.token_ids.append(token)
        sequence.scores.append(float(log_probs[token]))
        if token == tokenizer.eos_id or sequence.writer.add(token):
            sequence.finish_reason = "stop"
        elif len(sequence.token_ids) == max_tokens:
            sequence.finish_reason = "length"
        if sequence.finish_reason and sequence.writer.close():
            sequence.finish_reason = "stop"

    for sequence in sequences:
        go_on(sequence, root)
    while active := [sequence for sequence in sequences if not sequence.finish_reason]:
        passes = yield [Forward(s.token_ids[-1:], s.state, once=True) for s in active]
        for sequence, result in zip(active, passes, strict=True):
            go_on(sequence, result)
        del passes, result  # their memory serves the next step, while it is in the cache


def _written(tokenizer: Tokenizer, hypothesis: Hypothesis, root: Pass, writer: Writer) -> _Sequence:
    """Write out what beam search found."""
    sequence = _Sequence(writer, _random(0, 0), root.state)
    sequence.token_ids, sequence.scores = [*hypothesis.token_ids], [*hypothesis.log_probs]
    writer.write(token for token in hypothesis.token_ids if token != tokenizer.eos_id)
    stopped = writer.close()
    sequence.finish_reason = "stop" if hypothesis.finished or stopped else "length"
    return sequence


def _random(seed: int | None, index: int) -> np.random.Generator:
    return np.random.default_rng((secrets.randbits(63) if seed is None else seed, index))


def _continuation(tokenizer: Tokenizer, sequence: _Sequence) -> Continuation:
    assert sequence.finish_reason is not None
    texts = [
        "" if token == tokenizer.eos_id else sequence.writer.token_text(token)
        for token in sequence.token_ids
    ]
    return Continuation(
        text=sequence.writer.text,
        finish_reason=sequence.finish_reason,
        log_prob=sum(sequence.scores),
        tokens=[TokenScore(*pair) for pair in zip(texts, sequence.scores, strict=True)],
    )
