"""A run that begins with the weights of a checkpoint: the model is adapted to other text."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.checkpoint import load_checkpoint
from models.language_model import LanguageModel
from models.networks import network_config
from training.files import write_text
from training.recipe import Recipe


def load_start(folder: Path, recipe: Recipe) -> LanguageModel:
    """Load the checkpoint that a run begins with; its vocabulary is the run's.

    Raises:
        CheckpointError: There is no checkpoint in the folder, or a faulty one.
        ValueError: The recipe asks for another network, dropout aside, or another kind of
            tokenizer.
    """
    model = load_checkpoint(folder)
    tokenizer, found = model.tokenizer, asdict(model.network.config)
    sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    asked = asdict(network_config({**recipe.network, **sizes}))
    differing = [name for name in found if found[name] != asked.get(name) and name != "dropout"]
    if tokenizer.kind != recipe.tokenizer.kind:
        _refuse(folder, "tokenizer.kind", tokenizer.kind, recipe.tokenizer.kind)
    for name in differing:
        _refuse(folder, f"network.{name}", found[name], asked.get(name))
    return model


def _refuse(folder: Path, name: str, found: object, asked: object) -> None:
    raise ValueError(
        f"{folder} has {name} = {found!r}, the recipe {asked!r}: take the recipe that it was "
        "trained with"
    )


def origin_of(model: LanguageModel) -> dict[str, Any]:
    """Return what a checkpoint notes of the one that it began with.

    Its ``core_hours`` are all that were spent before: those of its own beginnings too.
    """
    training = model.details.get("training", {})
    before = training.get("began_with", {}).get("core_hours", 0.0)
    hours = round(training.get("core_hours", 0.0) + before, 4)
    return {"name": model.name, "weights": model.checksum, "core_hours": hours}


def hold_to_start(
    path: Path, origin: Mapping[str, Any] | None, *, resume: bool, write: bool
) -> None:
    """Hold a run to the weights that it began with; ``path`` notes them, and is not there for none.

    Raises:
        ValueError: The run to resume began with others.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if resume:
        if before != origin:
            raise ValueError(f"{path.parent} began with {_told(before)}, not with {_told(origin)}")
    elif write and origin is not None:
        write_text(path, json.dumps(dict(origin)) + "\n")
    elif write:
        path.unlink(missing_ok=True)


def _told(origin: Mapping[str, Any] | None) -> str:
    return f"{origin['name']} ({origin['weights'][:12]}…)" if origin else "fresh weights"
