"""Beam search: the most probable sequences, approximately."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.forward import Forward, Pass, Program
from models.networks import State


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of tokens, their natural log-probabilities, and whether it came to its end."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finished: bool

    @property
    def total(self) -> float:
        """Natural log-probability of the sequence."""
        return sum(self.log_probs)

    @property
    def score(self) -> float:
        """Mean over the tokens, so that finished sequences of all lengths compare."""
        return self.total / max(1, len(self.log_probs))


def beam_search(
    root: Pass,
    *,
    eos_id: int,
    never: Sequence[int],
    num_beams: int,
    max_tokens: int,
    is_stopped: Callable[[Sequence[int]], bool],
) -> Program[list[Hypothesis]]:
    """Keep the ``num_beams`` most probable unfinished sequences, token by token.

    The search ends when ``num_beams`` sequences are finished and none of the unfinished has a
    better mean, or at ``max_tokens``.

    Args:
        root: The pass behind the prompt.
        eos_id: Token that finishes a sequence.
        never: Tokens that must not be generated.
        num_beams: At least 1.
        max_tokens: Most tokens of a sequence, at least 1.
        is_stopped: Whether the text of these tokens has reached a stop string.

    Returns:
        Hypotheses by mean log-probability, best first; at least one, at most ``num_beams``.
    """
    beams: list[tuple[Hypothesis, State]] = [(Hypothesis((), (), False), root.state)]
    rows = [root.log_probs.numpy()]
    finished: list[Hypothesis] = []
    for step in range(max_tokens):
        candidates = _best_children([h for h, _ in beams], rows, never, 2 * num_beams)
        kept: list[tuple[Hypothesis, State]] = []
        for parent, token, log_prob in candidates:
            before, state = beams[parent]
            ended = token == eos_id
            token_ids = (*before.token_ids, token)
            ended = ended or is_stopped(token_ids)
            hypothesis = Hypothesis(token_ids, (*before.log_probs, log_prob), ended)
            if ended:
                finished.append(hypothesis)
            elif len(kept) < num_beams:
                kept.append((hypothesis, state))
        finished = sorted(finished, key=lambda h: -h.score)[:num_beams]
        beams = kept
        done = len(finished) == num_beams and finished[-1].score >= max(
            (h.score for h, _ in beams), default=-np.inf
        )
        if done or not beams or step + 1 == max_tokens:
            break
        passes = yield [Forward(h.token_ids[-1:], state, once=True) for h, state in beams]
        beams = [(h, p.state) for (h, _), p in zip(beams, passes, strict=True)]
        rows = [p.log_probs.numpy() for p in passes]
    best = finished if len(finished) == num_beams else [*finished, *(h for h, _ in beams)]
    return sorted(best, key=lambda h: -h.score)[:num_beams]


def _best_children(
    beams: Sequence[Hypothesis], rows: Sequence[np.ndarray], never: Sequence[int], most: int
) -> list[tuple[int, int, float]]:
    """Return beam, token and the token's log-probability of the most probable children."""
    table = np.stack(rows).astype(np.float64)  # (beams, V)
    table[:, [*never]] = -np.inf
    totals = table + np.array([beam.total for beam in beams])[:, None]
    most = min(most, int((totals > -np.inf).sum()))
    flat = totals.ravel()
    top = np.argpartition(-flat, most - 1)[:most]
    top = top[np.argsort(-flat[top], kind="stable")]
    width = table.shape[1]
    return [(int(i) // width, int(i) % width, float(table.flat[i])) for i in top]
