"""How a token of a completion is chosen: the repetition penalty beside all that bends with it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.completion import Penalties, complete
from models.forward import run
from models.sampling import Filters
from tests.models.helpers import bounded, tokenizer_of, told_model

SEEN, OTHER = 5, 6  # token ids


def generated(log_probs, bias, penalty, *, draws=1):
    """Return the tokens that follow `SEEN`, the most probable or as they are drawn."""
    tokenizer = tokenizer_of("word")
    row = np.full(tokenizer.vocab_size, -1e3)
    row[[SEEN, OTHER]] = log_probs
    model = told_model(tokenizer, lambda history: row)
    program = complete(
        model,
        [SEEN],
        behind_bos=True,
        max_tokens=1,
        n=draws,
        filters=Filters(temperature=float(draws > 1), repetition_penalty=penalty),
        penalties=Penalties(bias=dict(zip((SEEN, OTHER), bias, strict=True))),
        seed=1,
    )
    return [result.tokens[0].token_id for result in run(program, model).results]


BIAS = st.floats(-100, 100)


@given(st.floats(-5, 5), BIAS, BIAS, st.floats(0.1, 10), st.floats(0.1, 10))
@bounded(80)
def test_a_larger_repetition_penalty_never_prefers_what_was_seen(logit, seen, other, one, two):
    (less,), (more,) = (
        generated([logit, 0.0], [seen, other], penalty) for penalty in sorted((one, two))
    )
    assert less == SEEN or more == OTHER


def test_a_repetition_penalty_lowers_the_share_of_what_was_seen_whatever_its_bias():
    def share(penalty):
        drawn = generated([0.0, 0.0], [5.0, 5.0], penalty, draws=400)
        return drawn.count(SEEN) / len(drawn)

    shares = [share(penalty) for penalty in (0.5, 1.0, 2.0, 4.0)]
    assert shares == sorted(shares, reverse=True)
    # Half each; multiplied by four, the logarithm of a half is that of a sixteenth.
    assert abs(shares[1] - 1 / 2) < 0.1
    assert abs(shares[3] - 1 / 9) < 0.1
