"""A run that begins with the weights of a checkpoint, its base: a model adapted to other text."""

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
    asked = {
        "network": asdict(network_config({**recipe.network, **sizes})),
        "tokenizer": asdict(recipe.tokenizer),
    }
    has = {
        "network": asdict(base.network.config),
        "tokenizer": {
            **base.details.get("recipe", {}).get("tokenizer", {}),
            "kind": tokenizer.kind,
        },
    }
    for table, settings in has.items():
        for name, value in settings.items():
            if value != asked[table].get(name) and name != "dropout":
                raise ValueError(
                    f"{folder} has {table}.{name} = {value!r}, the recipe "
                    f"{asked[table].get(name)!r}: take the recipe that it was trained with"
                )
    return base


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
    path = run / "start.json"
    if not resume and note is not None:
        write_text(path, json.dumps(dict(note)) + "\n")
    elif not resume:
        path.unlink(missing_ok=True)
    else:
        before = _read(path)
        if (before or {}).get("weights") != (note or {}).get("weights"):
            raise ValueError(f"{run} began with {_told(before)}, not with {_told(note)}")


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


def _told(note: Mapping[str, Any] | None) -> str:
    return f"{note['name']} ({note['weights'][:12]}…)" if note else "drawn weights"
