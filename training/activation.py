"""Activation regularisation and temporal activation regularisation (Merity et al. 2017).

Their L2 norms are means of squares here, as in the authors' own program, so that the weights do
not depend on the sizes. Both act on the output layer's input: there the two papers' last hidden
vector stands where no projection follows it. A recurrent network's dropout there is locked, so that
what it drops of the temporal penalty is made up for by what it scales up; a Transformer's is drawn
for each position, and the penalty counts its changes too.
"""

from torch import Tensor


def activation_penalty(features: Tensor, activation: float, temporal: float) -> Tensor | float:
    """Return what to add to the loss.

    Args:
        features: Input of the output layer, (B, T, E).
        activation: Weight of the mean square of the features.
        temporal: Weight of the mean square of their change from one step to the next.
    """
    penalty: Tensor | float = 0.0
    if activation:
        penalty = penalty + activation * features.float().square().mean()
    if temporal and features.size(1) > 1:
        penalty = penalty + temporal * features.float().diff(dim=1).square().mean()
    return penalty
