"""The checkpoints that a run begins with and learns from: its base, and its teacher."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.checkpoint import load_checkpoint
from models.language_model import LanguageModel
from models.networks import Network, network_config
from training.files import write_text
from training.recipe import Recipe


def load_base(folder: Path, recipe: Recipe) -> LanguageModel:
    """Load the checkpoint that a run begins with; its vocabulary is the run's.

    Raises:
        CheckpointError: There is no checkpoint in the folder, or a faulty one.
        ValueError: The recipe asks for another network, dropout aside, or another tokenizer.
    """
    base = load_checkpoint(folder)
    tokenizer = base.tokenizer
    sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    asked = asdict(network_config({**recipe.network, **sizes}))
    for name, value in asdict(base.network.config).items():
        if value != asked.get(name) and name != "dropout":
            raise ValueError(
                f"{folder} has network.{name} = {value!r}, the recipe "
                f"{asked.get(name)!r}: take the recipe that it was trained with"
            )
    _check_tokenizer(folder, base, recipe)
    return base


def load_teacher(folder: Path, recipe: Recipe, base: LanguageModel | None) -> LanguageModel:
    """Load the checkpoint that a run learns from; its vocabulary is the run's.

    Raises:
        CheckpointError: There is no checkpoint in the folder, or a faulty one.
        ValueError: The recipe asks for another tokenizer, or the base has another vocabulary, or
            words are to be drawn for the softmax, of which a teacher tells all.
    """
    teacher = load_checkpoint(folder)
    _check_tokenizer(folder, teacher, recipe)
    if base and base.tokenizer.to_json() != teacher.tokenizer.to_json():
        raise ValueError(f"{folder} has another vocabulary than {base.name}: it cannot teach it")
    if recipe.training.softmax_samples:
        raise ValueError("training.softmax_samples must be 0 with a teacher")
    return teacher


def _check_tokenizer(folder: Path, model: LanguageModel, recipe: Recipe) -> None:
    asked = asdict(recipe.tokenizer)
    settings = model.details.get("recipe", {}).get("tokenizer", {})
    for name, value in {**settings, "kind": model.tokenizer.kind}.items():
        if value != asked.get(name):
            raise ValueError(
                f"{folder} has tokenizer.{name} = {value!r}, the recipe "
                f"{asked.get(name)!r}: take the recipe that it was trained with"
            )


def note_of(base: LanguageModel) -> dict[str, Any]:
    """Return what a checkpoint notes of its base, under ``training.began_with``.

    Returns:
        ``name``; ``weights``, their SHA-256; ``core_hours`` of its training, None where unknown;
        ``train`` and ``valid``, the names of the files. The last three count the base's base too.
    """
    training, corpus = base.details.get("training", {}), base.details.get("corpus", {})
    before = training.get("began_with", {"core_hours": 0.0})
    hours = training.get("core_hours"), before["core_hours"]
    files = {
        use: list(dict.fromkeys([*before.get(use, ()), *corpus.get(use, ())]))
        for use in ("train", "valid")
    }
    return {
        "name": base.name,
        "weights": base.checksum,
        "core_hours": None if None in hours else round(sum(hours), 4),
        **files,
    }


def keep(network: Network, base: Network, share: float) -> None:
    """Move a network's weights ``share`` of the way back to its base's, in place.

    What the base knew comes back sooner than what was learnt is lost (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models").
    """
    before = base.state_dict()
    network.load_state_dict(
        {
            name: weights.lerp(before[name].to(weights), share)
            for name, weights in network.state_dict().items()
        }
    )


def hold_to_base(run: Path, note: Mapping[str, Any] | None, *, resume: bool) -> None:
    """Hold a run's folder to the weights that it began with; None for drawn ones.

    Raises:
        ValueError: The run to resume began with others, or its note of them is damaged.
    """
    before = _hold(run / "start.json", note, resume=resume)
    if resume and _weights(before) != _weights(note):
        none = "drawn weights"
        raise ValueError(f"{run} began with {_told(before, none)}, not with {_told(note, none)}")


def hold_to_teacher(run: Path, note: Mapping[str, Any] | None, *, resume: bool) -> None:
    """Hold a run's folder to the weights that it learns from; None for no teacher.

    Raises:
        ValueError: The run to resume learnt from others, or its note of them is damaged.
    """
    before = _hold(run / "teacher.json", note, resume=resume)
    if resume and _weights(before) != _weights(note):
        none = "no teacher"
        raise ValueError(f"{run} learnt from {_told(before, none)}, not from {_told(note, none)}")


def _hold(path: Path, note: Mapping[str, Any] | None, *, resume: bool) -> Mapping[str, Any] | None:
    """Return what an earlier part of the run noted; the first part notes it."""
    if resume:
        return _read(path)
    if note is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, json.dumps(dict(note)) + "\n")
    return note


def _weights(note: Mapping[str, Any] | None) -> str | None:
    return note["weights"] if note else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        note = None
    if not isinstance(note, dict) or not {"name", "weights"} <= note.keys():
        raise ValueError(f"{path} is not what a run has left")
    return note


def _told(note: Mapping[str, Any] | None, none: str) -> str:
    return f"{note['name']} ({note['weights'][:12]}…)" if note else none
