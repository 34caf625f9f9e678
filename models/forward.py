"""Forward passes, the programs that ask for them, and the plain loop that runs a program.

A question is a *program*: a generator that yields the forward passes it needs next and receives
their results, so that it never sees a batch, a thread or a device::

    def program() -> Program[R]:
        passes = yield [Forward(token_ids, state, "last")]
        ...
        return result
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from torch import Tensor

from models.networks import State


@dataclass(frozen=True)
class Forward:
    """One text to read on.

    Attributes:
        token_ids: What to read, at least one id.
        state: What was read before, of a batch of one, or None at the start of a text.
        want: Which log-probabilities to return: ``last`` for those behind the last token, ``all``
            for those behind every token, ``none`` for the state alone.
    """

    token_ids: Sequence[int]
    state: State | None = None
    want: Literal["last", "all", "none"] = "last"


@dataclass(frozen=True)
class Pass:
    """What a forward pass returns.

    Attributes:
        log_probs: Natural log-probabilities of the next token, float32, on the CPU: (V,) where
            ``last`` was wanted, (T, V) for ``all``, (0, V) for ``none``.
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


def run_all(programs: "Sequence[Program[R]]", runner: Runner) -> list[R]:
    """Drive programs side by side, all their passes of a moment computed together."""
    results: dict[int, R] = {}
    waiting: dict[int, list[Forward]] = {}

    def advance(i: int, passes: list[Pass] | None) -> None:
        try:
            waiting[i] = programs[i].send(passes) if passes is not None else next(programs[i])
        except StopIteration as finished:
            waiting.pop(i, None)
            results[i] = finished.value

    for i in range(len(programs)):
        advance(i, None)
    while waiting:
        asked = list(waiting.items())
        passes = iter(runner.compute([forward for _, forwards in asked for forward in forwards]))
        for i, forwards in asked:
            advance(i, [next(passes) for _ in forwards])
    return [results[i] for i in range(len(programs))]
