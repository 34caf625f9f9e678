"""The networks that `benchmarks.choices` compares: those of the recipes made small, and changed."""

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from models.networks import transformer
from training.recipe import Recipe, load_recipe

_SETTINGS = (
    "network.embedding_size=160",
    "network.dropout=0",
    "optimizer.warmup_steps=100",
    "optimizer.decay_share=0.4",
    "training.batch_size=32",
    "training.validate_every=1000000",
    "training.validate_tokens=2000",
)
_TRANSFORMER = (
    "network.num_layers=4",
    "network.num_heads=5",
    "network.feedforward_size=320",
)
_LSTM = ("network.hidden_size=256",)
_SAMPLED = ("training.softmax_samples=1024",)


class SquaredRelu(transformer.Block):
    """A block whose feed-forward layer squares what is positive (So et al. 2021).

    It has as many weights as the other.
    """

    def __init__(self, config: transformer.TransformerConfig) -> None:
        """Build the layers with fresh weights."""
        super().__init__(config)
        width, inner = config.embedding_size, config.feedforward_size * 3 // 2
        self.feedforward_input = nn.Linear(width, inner, bias=False)
        self.feedforward_output = nn.Linear(inner, width, bias=False)

    def feedforward(self, x: Tensor) -> Tensor:
        """Return the layer's output (B, T, D)."""
        output: Tensor = self.feedforward_output(F.relu(self.feedforward_input(x)).square())
        return output


class NormalisedHeads(transformer.Block):
    """A block whose queries and keys are normalised head by head (Henry et al. 2020).

    A learned gain, which both share, follows.
    """

    def __init__(self, config: transformer.TransformerConfig) -> None:
        """Build the layers with fresh weights."""
        super().__init__(config)
        self.head_norm = nn.RMSNorm(config.embedding_size // config.num_heads)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised queries and keys, and values."""
        qk, v = super().heads(x)
        return self.head_norm(qk), v


@dataclass(frozen=True)
class Variant:
    """A network, and how it is trained.

    Attributes:
        group: Whom it is compared with.
        recipe: By name.
        settings: Behind the recipe's, as ``nextword train`` takes them.
        block: Of the Transformer.
        capitals: They are written as marks of their own, see `mark_capitals`.
        every: One document in so many is trained on, and read the more often.
    """

    group: str
    recipe: str
    settings: tuple[str, ...]
    block: type[transformer.Block] = transformer.Block
    capitals: bool = False
    every: int = 1

    def change(self, *settings: str) -> "Variant":
        """Return it with settings behind its own."""
        return replace(self, settings=(*self.settings, *settings))

    def load(self) -> Recipe:
        """Return the recipe, but for the time that it trains."""
        return load_recipe(self.recipe, (*_SETTINGS, *self.settings))


_T = Variant("Transformer", "everyday-transformer", _TRANSFORMER)
_L = Variant("LSTM", "everyday-lstm", _LSTM)
_O = Variant("Transformer, often", _T.recipe, (*_T.settings, "network.dropout=0.25"), every=20)
SEEDS = {
    f"{base.group}, seed {seed}": base.change(f"training.seed={seed}")
    for base, seeds in ((_T, (1, 2, 3)), (_L, (1, 2)), (_O, (1, 2)))
    for seed in seeds
}
CHANGED = {
    "sampled softmax": _T.change(*_SAMPLED),
    "16,384 pieces": _T.change("tokenizer.vocab_size=16384"),
    "32,768 pieces": _T.change("tokenizer.vocab_size=32768"),
    "32,768 pieces, sampled": _T.change("tokenizer.vocab_size=32768", *_SAMPLED),
    "32,768 whole words": _T.change("tokenizer.kind=word", "tokenizer.vocab_size=32768"),
    "32,768 whole words, sampled": _T.change(
        "tokenizer.kind=word", "tokenizer.vocab_size=32768", *_SAMPLED
    ),
    "capitals as marks": replace(_T, capitals=True),
    "2 layers": _T.change("network.num_layers=2", "network.feedforward_size=848"),
    "6 layers": _T.change("network.num_layers=6", "network.feedforward_size=144"),
    "queries and keys normalised": replace(_T, block=NormalisedHeads),
    "squared ReLU": replace(_T, block=SquaredRelu),
    "1 layer": _L.change("network.num_layers=1", "network.hidden_size=408"),
    "3 layers": _L.change("network.num_layers=3", "network.hidden_size=204"),
    "often, sampled softmax": _O.change(*_SAMPLED),
    "often, queries and keys normalised": replace(_O, block=NormalisedHeads),
}
