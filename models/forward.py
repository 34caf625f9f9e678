"""Forward passes, the programs that ask for them, and the plain loop that runs a program.

A question is a *program*: a generator that yields the forward passes it needs next and receives
their results, so that it never sees a batch, a thread or a device::

    def program() -> Program[R]:
        passes = yield [Forward(token_ids, state, "last")]
        ...
        return result
"""

from collections.abc import Generator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from models.networks import State

_MOMENT = 1024  # tokens of several programs read together
CHUNK = 256  # tokens: nobody waits behind somebody else's novel


class Forward(NamedTuple):
    """One text to read on.

    Attributes:
        token_ids: What to read, at least one id.
        state: What was read before, of a batch of one, or None at the start of a text.
        want: Which log-probabilities to return: ``last`` for those behind the last token, ``all``
            for those behind every token, ``targets`` for one behind every token, ``none`` for the
            state alone.
        targets: For ``targets``, the id that is asked for behind each token: as many as were read.
            Much cheaper than ``all`` where nothing else of the distributions is looked at.
        once: Nobody is likely to ask for this again, so that it is not worth keeping: a token that
            was generated.
    """

    token_ids: Sequence[int]
    state: State | None = None
    want: Literal["last", "all", "targets", "none"] = "last"
    targets: Sequence[int] = ()
    once: bool = False


class Pass(NamedTuple):
    """What a forward pass returns.

    Attributes:
        log_probs: Natural log-probabilities of the next token, float32, on the CPU: (V,) where
            ``last`` was wanted, (T, V) for ``all``, (T,) for ``targets``, (0, V) for ``none``.
        state: What has been read now.
    """

    log_probs: Tensor
    state: State


R = TypeVar("R", covariant=True)
Program = Generator[list[Forward], list[Pass], R]


class Runner(Protocol):
    """Something that computes forward passes, in the order in which they were asked for."""

    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        """Run the passes, which may belong to different texts, together."""


def run(program: "Program[R]", runner: Runner) -> R:
    """Drive one program to its end: the plain loop."""
    try:
        forwards = next(program)
        while True:
            forwards = program.send(runner.compute(forwards))
    except StopIteration as finished:
        result: R = finished.value
        return result


def side_by_side(programs: "Sequence[Program[R]]") -> "Program[list[R]]":
    """Join programs into one that asks for their passes of a moment together.

    A moment has a bounded number of tokens, so that many long texts take no more memory than a
    few; earlier programs go first.
    """
    results: dict[int, R] = {}
    asked: dict[int, list[Forward]] = {}
    tokens: dict[int, int] = {}  # that they ask for
    waiting = iter(range(len(programs)))

    def advance(i: int, passes: list[Pass] | None) -> int:
        """Return how many tokens program ``i`` now asks for."""
        try:
            forwards = next(programs[i]) if passes is None else programs[i].send(passes)
        except StopIteration as finished:
            asked.pop(i, None)
            results[i] = finished.value
            return 0
        asked[i] = forwards
        tokens[i] = sum([len(forward.token_ids) for forward in forwards])
        return tokens[i]

    while len(results) < len(programs):
        total = sum([tokens[i] for i in asked])
        while total < _MOMENT and (i := next(waiting, None)) is not None:
            total += advance(i, None)
        moment: dict[int, list[Forward]] = {}
        total = 0
        for i, forwards in asked.items():
            moment[i] = forwards
            total += tokens[i]
            if total >= _MOMENT:
                break
        if moment:
            passes = iter((yield [forward for part in moment.values() for forward in part]))
            for i, forwards in moment.items():
                advance(i, [next(passes) for _ in forwards])
    return [results[i] for i in range(len(programs))]


def run_all(programs: "Sequence[Program[R]]", runner: Runner) -> list[R]:
    """Drive programs side by side."""
    return run(side_by_side(programs), runner)


def read(
    token_ids: Sequence[int], state: State | None, want: Literal["last", "all", "none"] = "last"
) -> Program[Pass]:
    """Read any number of tokens, at least one, in passes of bounded length.

    Returns:
        The pass behind the last token; where ``all`` was wanted its log-probabilities are those
        behind every token, (T, V).
    """
    log_probs = []
    for start in range(0, len(token_ids), CHUNK):
        chunk = token_ids[start : start + CHUNK]
        last = start + CHUNK >= len(token_ids)
        (result,) = yield [Forward(chunk, state, want if last or want == "all" else "none")]
        state = result.state
        log_probs.append(result.log_probs)
    return Pass(torch.cat(log_probs) if want == "all" else log_probs[-1], result.state)
