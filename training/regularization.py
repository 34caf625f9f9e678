"""The table ``[regularization]`` of a recipe: what keeps a network from learning texts by heart.

All of it acts in training only: a checkpoint bears no trace of it.
"""

from dataclasses import dataclass, replace

from models.networks import DropoutRates
from training.bounds import below_one, not_negative


@dataclass(frozen=True, kw_only=True)
class RegularizationSettings:
    """Rates of dropout beside ``network.dropout``, and penalties on activations.

    Attributes:
        word_dropout: Share of the vocabulary that a step reads as nothing (Gal & Ghahramani 2016).
        input_dropout: Share of the embedding's units dropped; by default ``network.dropout``.
        hidden_dropout: Share of units dropped between recurrent layers, or behind attention and
            feed-forward; by default ``network.dropout``.
        output_dropout: Share of units of the last layer dropped; by default ``network.dropout``
            for recurrent layers, 0 for a Transformer.
        weight_drop: Share of hidden-to-hidden weights dropped (Merity et al. 2018); recurrent only.
        attention_dropout: Share of the weights of attention dropped (Vaswani et al. 2017);
            Transformer only.
        activation: Weight of the penalty on large features, see `training.activation`.
        temporal_activation: Weight of the penalty on features that change from step to step.
    """

    word_dropout: float = 0.0
    input_dropout: float | None = None
    hidden_dropout: float | None = None
    output_dropout: float | None = None
    weight_drop: float = 0.0
    attention_dropout: float = 0.0
    activation: float = 0.0
    temporal_activation: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting out of range."""
        below_one(self, "word_dropout", "input_dropout", "hidden_dropout", "output_dropout")
        below_one(self, "weight_drop", "attention_dropout")
        not_negative(self, "activation", "temporal_activation")

    def rates(self, default: DropoutRates) -> DropoutRates:
        """Return the rates of dropout.

        Args:
            default: What the network drops by its configuration alone.
        """
        units = {
            "input": self.input_dropout,
            "hidden": self.hidden_dropout,
            "output": self.output_dropout,
        }
        return replace(
            default,
            words=self.word_dropout,
            weights=self.weight_drop,
            attention=self.attention_dropout,
            **{name: rate for name, rate in units.items() if rate is not None},
        )
