"""A recipe: everything that decides what a training run computes, as frozen settings.

A recipe is a TOML file with the tables ``[tokenizer]``, ``[network]``, ``[regularization]``,
``[optimizer]`` and ``[training]``; every value can be overridden from the command line
(``section.name=value``).
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin

from models.networks import network_config
from training.bounds import below_one, not_negative, positive, share
from training.regularization import RegularizationSettings


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """How text becomes tokens.

    Attributes:
        kind: ``subword``, ``word`` or ``wikitext``.
        vocab_size: Most token ids that can be predicted, V.
    """

    kind: str = "subword"
    vocab_size: int = 8192

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind or a vocabulary too small for the 256 bytes."""
        if self.kind not in ("subword", "word", "wikitext"):
            raise ValueError(f"kind must be subword, word or wikitext, not {self.kind!r}")
        smallest = 257 if self.kind == "subword" else 3
        if self.vocab_size < smallest:
            raise ValueError(f"vocab_size must be at least {smallest}, not {self.vocab_size}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW (Loshchilov & Hutter 2019) or Muon (Jordan et al. 2024), warm-up, decay, clipping.

    Attributes:
        learning_rate: Peak step size.
        schedule: ``constant`` between warm-up and decay, or ``1cycle``, see `training.schedule`.
        warmup_steps: Linear rise from 0 to the peak, optimizer steps; ``constant`` only.
        decay_share: Share of all steps, at the end, in which the step size falls linearly;
            ``constant`` only.
        start_rate: Step size at the beginning, as a share of the peak; ``1cycle`` only.
        rise_share: Share of all steps in which the step size rises; ``1cycle`` only.
        final_rate: Step size at the end, as a share of the peak.
        weight_decay: Decoupled decay of matrices; vectors are not decayed.
        beta1: Decay of the first moment, per optimizer step.
        beta1_at_peak: The same at the peak of the step size; by default no other; ``1cycle`` only.
        beta2: Decay of the second moment, per optimizer step.
        muon: Update the matrices between the layers by Muon, the rest by AdamW.
        momentum: Decay of Muon's moment, per optimizer step.
        clip_norm: Largest global norm of the gradient.
        average_decay: Decay of the averaged weights, per optimizer step; 0 turns averaging off.
        average_from: Share of all steps behind which the average is that of all weights from there
            on, each counting alike (Polyak & Juditsky 1992); 1 for never.
    """

    learning_rate: float = 2e-3
    schedule: str = "constant"
    warmup_steps: int = 200
    decay_share: float = 0.4
    start_rate: float = 0.04
    rise_share: float = 0.3
    final_rate: float = 0.02
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta1_at_peak: float | None = None
    beta2: float = 0.98
    muon: bool = False
    momentum: float = 0.95
    clip_norm: float = 1.0
    average_decay: float = 0.999
    average_from: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting out of range."""
        positive(self, "learning_rate", "clip_norm")
        below_one(self, "beta1", "beta2", "momentum", "average_decay", "beta1_at_peak")
        share(self, "decay_share", "final_rate", "rise_share", "start_rate", "average_from")
        not_negative(self, "warmup_steps", "weight_decay")
        if self.schedule not in ("constant", "1cycle"):
            raise ValueError(f"schedule must be constant or 1cycle, not {self.schedule!r}")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the corpus is read and how long.

    Attributes:
        epochs: Times that the whole corpus is read; may be a fraction.
        repeats: How often an epoch reads the files of a folder, by the folder's name; files of
            other folders are read once.
        batch_size: Streams of text read side by side, B.
        segment_length: Tokens that each stream reads in an optimizer step, T.
        state_reset: Chance that a stream forgets its state before a step, so that the network
            learns to begin with none.
        lines_alone: Share of the documents, drawn anew in each epoch, whose lines are read each
            alone, so that the network learns to begin in the midst of a text.
        base_share: Share of the base's weights in the checkpoint, see `training.start.keep`; needs
            a base (``--from``).
        teacher_share: Weight of what a teacher (``--teacher``) expects in the loss, see
            `training.teacher`; the rest is that of what stands in the text.
        softmax_samples: Words drawn for the softmax of a step, see `training.sampled_softmax`; 0
            computes it exactly.
        sampled_share: Share of all steps, from the first, in which words are drawn; the softmax of
            the others, and of all validation, is exact.
        validate_every: Optimizer steps between validations.
        validate_tokens: Most tokens of each validation file to read in a validation; 0 for all.
        patience: Validations without improvement after which training stops; 0 for never.
        save_every: Optimizer steps between states written for ``--resume``.
        precision: ``float32``, ``bfloat16`` (weights stay float32), or ``auto``: bfloat16 where
            the processor has instructions for it. ``bfloat16`` needs AVX-512 on a CPU.
        compile: Compile the network with torch.compile, which needs a C++ compiler: worth its
            minutes for a Transformer on a GPU.
        storage: How the checkpoint holds the weights: ``float32``, ``float16``, or ``int8``, with
            one scale for each row of a matrix.
        seed: Seed of weights, shuffling, dropout and resets.
    """

    epochs: float = 1.0
    repeats: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 32
    segment_length: int = 64
    state_reset: float = 0.02
    lines_alone: float = 0.0
    base_share: float = 0.0
    teacher_share: float = 0.5
    softmax_samples: int = 0
    sampled_share: float = 0.9
    validate_every: int = 500
    validate_tokens: int = 100_000
    patience: int = 0
    save_every: int = 500
    precision: str = "auto"
    compile: bool = False
    storage: str = "int8"
    seed: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting out of range."""
        positive(self, "epochs", "batch_size", "segment_length", "validate_every", "save_every")
        below_one(self, "state_reset", "base_share")
        share(self, "lines_alone", "teacher_share")
        not_negative(self, "validate_tokens", "patience", "seed", "softmax_samples")
        share(self, "sampled_share")
        for name, times in self.repeats.items():
            if type(times) is not int or times < 1:
                raise ValueError(
                    f"repeats of {name} must be a whole number of at least 1, not {times!r}"
                )
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise ValueError(f"precision must be float32, bfloat16 or auto, not {self.precision!r}")
        if self.storage not in ("float32", "float16", "int8"):
            raise ValueError(f"storage must be float32, float16 or int8, not {self.storage!r}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The five tables of a recipe; ``network`` holds the fields of its kind's configuration.

    ``vocab_size`` and ``num_ids`` of the network are filled in from the trained tokenizer.
    """

    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    network: Mapping[str, Any] = field(default_factory=dict)
    regularization: RegularizationSettings = field(default_factory=RegularizationSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Raise ValueError for a network that could not be built."""
        for name in ("vocab_size", "num_ids"):
            if name in self.network:
                raise ValueError(
                    f"network.{name} comes from the tokenizer; set tokenizer.vocab_size"
                )
        network_config({**self.network, "vocab_size": 1, "num_ids": 1})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read plain values, as TOML or JSON holds them.

        Raises:
            ValueError: An unknown table or setting, or a value of the wrong type or out of range.
        """
        tables = {f.name: f.default_factory for f in fields(cls)}
        if unknown := sorted(set(values) - set(tables)):
            raise ValueError(f"a recipe has no [{unknown[0]}]; it has {', '.join(tables)}")
        built: dict[str, Any] = {}
        for name, table in values.items():
            if not isinstance(table, Mapping):
                raise ValueError(f"{name} must be a table of settings")
            settings = tables[name]
            built[name] = dict(table) if settings is dict else _read(settings, name, table)
        return cls(**built)

    def to_values(self) -> dict[str, Any]:
        """Return plain values, the inverse of `from_values`; what is None is left out."""
        values = asdict(self) | {"network": dict(self.network)}
        return {
            table: {name: value for name, value in settings.items() if value is not None}
            for table, settings in values.items()
        }


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe that ships with the package, by name, or a TOML file, by path.

    Args:
        name_or_path: ``everyday-lstm``, or a path that ends in ``.toml``.
        overrides: ``section.name=value`` each, the value as in TOML; a bare word is a string.

    Raises:
        ValueError: No such recipe, or a value that is unknown or out of range.
    """
    if name_or_path.endswith(".toml"):
        text = Path(name_or_path).read_text(encoding="utf-8")
    else:
        shipped = {f.name.removesuffix(".toml"): f for f in _shipped()}
        if name_or_path not in shipped:
            raise ValueError(
                f"no recipe {name_or_path!r}: give a .toml file, or one of {', '.join(shipped)}"
            )
        text = shipped[name_or_path].read_text(encoding="utf-8")
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name_or_path}: {error}") from None
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, setting = key.partition(".")
        if not (equals and dot):
            raise ValueError(f"an override is section.name=value, not {override!r}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[setting] = parsed
    return Recipe.from_values(values)


def _shipped() -> list[Any]:
    folder = resources.files("training") / "recipes"
    return sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)


def _read(settings: Any, table: str, values: Mapping[str, Any]) -> Any:
    known: dict[str, Any] = {f.name: f.type for f in fields(settings)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"[{table}] has no setting {name!r}; it has {', '.join(known)}")
        kind = known[name]
        wanted = get_args(kind)[0] if isinstance(kind, UnionType) else get_origin(kind) or kind
        right = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not right or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"{table}.{name} must be of type {wanted.__name__}, not {value!r}")
        if wanted is float and not math.isfinite(value):
            raise ValueError(f"{table}.{name} must be finite, not {value!r}")
    try:
        return settings(**values)
    except ValueError as error:
        raise ValueError(f"{table}.{error}") from None
