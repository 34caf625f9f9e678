"""Online figures: what a model is worth on a text when it may use what it has read of it so far.

Each token is scored before anything is kept or learnt of it, so these are proper likelihoods of
the text. They are another question than the static figures, and reported apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from models.language_model import LanguageModel
from training.dynamic_evaluation import (
    DECAYS,
    RATES,
    DynamicSettings,
    gradient_statistics,
    score_dynamically,
)
from training.evaluate import perplexity_of
from training.metrics import Metric
from training.neural_cache import CacheSettings, score_with_cache, tune_cache
from training.running_text import read_running_text

METHODS: Mapping[str, type[CacheSettings] | type[DynamicSettings]] = {
    "cache": CacheSettings,
    "dynamic": DynamicSettings,
}
SEARCHED: Mapping[str, tuple[str, ...]] = {  # settings that `tune` looks for
    "cache": ("size", "theta", "share"),
    "dynamic": ("rate", "decay"),
}
TUNED_TOKENS = 20_000  # of each file, by a method that takes a pass for every setting
OnlineSettings = CacheSettings | DynamicSettings


def online_settings(method: str, overrides: Sequence[str] = ()) -> OnlineSettings:
    """Return a method's settings.

    Args:
        method: ``cache`` or ``dynamic``.
        overrides: ``name=value`` each.

    Raises:
        ValueError: No such method or setting, or a value that is none or out of range.
    """
    if method not in METHODS:
        raise ValueError(f"online must be {' or '.join(METHODS)}, not {method!r}")
    cls = METHODS[method]
    known: dict[str, Any] = {field.name: field.type for field in fields(cls)}
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"a setting of {method} is NAME=VALUE, of {', '.join(known)}, not {override!r}"
            )
        try:
            values[name] = known[name](value)
        except ValueError:
            wanted = "a whole number" if known[name] is int else "a number"
            raise ValueError(f"{method} {name} must be {wanted}, not {value!r}") from None
        if not np.isfinite(values[name]):
            raise ValueError(f"{method} {name} must be finite, not {value!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{method} {error}") from None


def read_statistics(
    model: LanguageModel, settings: OnlineSettings, path: Path | None
) -> list[Tensor]:
    """Return what dynamic evaluation needs to know of ``path``, the training text.

    Raises:
        ValueError: The method needs a text and there is none.
    """
    if isinstance(settings, CacheSettings):
        return []
    if path is None:
        raise ValueError("dynamic evaluation needs gradient statistics: name the training text")
    documents = read_running_text(path, model.tokenizer).documents
    return gradient_statistics(model, documents, segment=settings.segment)


def online_log_probs(
    model: LanguageModel,
    documents: Iterable[np.ndarray],
    settings: OnlineSettings,
    statistics: Sequence[Tensor],
) -> np.ndarray:
    """Return the natural log-probabilities of the tokens, in their order, float64."""
    if isinstance(settings, CacheSettings):
        parts = score_with_cache(model, documents, settings)
    else:
        parts = score_dynamically(model, documents, settings, statistics)
    return np.concatenate(list(parts))


def tune(
    model: LanguageModel,
    path: Path,
    settings: OnlineSettings,
    statistics: Sequence[Tensor],
    *,
    most_tokens: int = TUNED_TOKENS,
) -> OnlineSettings:
    """Return the settings of a small grid that score ``path``, a validation text, best.

    Args:
        model: See `online_log_probs`.
        path: The cache reads it whole; dynamic evaluation its beginning, for each setting anew.
        settings: What the grid does not vary.
        statistics: See `online_log_probs`.
        most_tokens: That dynamic evaluation reads.
    """
    documents = read_running_text(path, model.tokenizer).documents
    if isinstance(settings, CacheSettings):
        return tune_cache(model, documents)[0]
    beginning, room = [], most_tokens
    for document in documents:
        beginning.append(document[:room])
        room -= len(beginning[-1])
        if not room:
            break
    grid = [replace(settings, rate=rate, decay=decay) for rate, decay in product(RATES, DECAYS)]
    return max(grid, key=lambda s: online_log_probs(model, beginning, s, statistics).sum())


def online_metric(
    model: LanguageModel, path: Path, settings: OnlineSettings, statistics: Sequence[Tensor]
) -> tuple[str, Metric]:
    """Return the name and the metric of a model's online perplexity on a text."""
    method = next(name for name, cls in METHODS.items() if isinstance(settings, cls))
    source = {
        "cache": "continuous neural cache (Grave et al. 2017)",
        "dynamic": "dynamic evaluation (Krause et al. 2018)",
    }[method]
    text = read_running_text(path, model.tokenizer)
    log_probs = online_log_probs(model, text.documents, settings, statistics)
    told = ", ".join(f"{name} {value:g}" for name, value in asdict(settings).items())
    return f"online_perplexity_{method}", Metric(
        perplexity_of(-float(log_probs.sum()), len(log_probs)),
        f"perplexity per token with a {source}, {told}; every token is scored before anything is "
        "kept or learnt of it; not to be compared with static perplexities",
        len(log_probs),
    )
