"""Weight drop: DropConnect on the hidden-to-hidden matrices of recurrent layers.

DropConnect is Wan et al. (2013); on these matrices, one mask for all steps of a segment, it
regularises what is remembered from step to step (Merity et al. 2018). The mask is drawn before the
layer's kernel runs, which stays the fast one.
"""

from collections.abc import Sequence

from torch import Tensor

from models.networks.dropout import drop


def drop_weights(weights: Sequence[Tensor], rate: float) -> list[Tensor]:
    """Return a layer's weights with a share ``rate`` of the hidden-to-hidden matrix dropped.

    Args:
        weights: Input-to-hidden and hidden-to-hidden matrix, then biases, as torch orders them.
        rate: At least 0 and below 1; the weights that stay are scaled up by 1 / (1 - rate).
    """
    inputs, hidden, *biases = weights
    return [inputs, drop(hidden, rate), *biases]
