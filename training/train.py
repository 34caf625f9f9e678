"""One training run, from text files to a checkpoint folder."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from models.checkpoint import save_checkpoint
from models.networks import build_network, network_config
from models.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from training.dataset import Dataset, concatenate, corpus_lines, prepare
from training.journal import Journal
from training.recipe import Recipe
from training.trainer import Trainer


@dataclass(frozen=True)
class Corpus:
    """Where the text of a run comes from.

    Attributes:
        train: Files to learn from.
        valid: Files to choose the best weights on.
    """

    train: Sequence[Path]
    valid: Sequence[Path]


def train(
    recipe: Recipe,
    corpus: Corpus,
    *,
    out: Path,
    run: Path,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> Trainer:
    """Train and write a checkpoint.

    Args:
        recipe: Tokenizer, network, optimizer and training settings.
        corpus: Text files.
        out: Folder of the finished checkpoint.
        run: Folder of what only this run needs: prepared data, states for resuming, journal.
        resume: Go on from the state in ``run`` instead of starting anew.
        device: ``cpu``, ``cuda``, …; by default the GPU where there is one.
        console: Where progress is shown; by default the terminal's standard error.

    Raises:
        ValueError: ``run`` holds another run's state, or none to resume, or the corpus is too
            small.
    """
    console = console or Console(stderr=True)
    run.mkdir(parents=True, exist_ok=True)
    _check_run(recipe, run, resume=resume)
    tokenizer = _tokenizer(recipe, corpus, run / "tokenizer.json", console)
    dataset = concatenate(_prepare(corpus.train, tokenizer, run, console), run / "data")
    valid = dict(zip(_names(corpus.valid), _prepare(corpus.valid, tokenizer, run, console), strict=True))

    torch.manual_seed(recipe.training.seed)
    sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    network = build_network(network_config({**recipe.network, **sizes}))
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trainer = Trainer(network, recipe, dataset, valid, run)
    if resume:
        trainer.resume()
    console.print(
        f"{sum(p.numel() for p in network.parameters()):,} parameters, "
        f"{tokenizer.vocab_size:,} token ids, {len(dataset):,} tokens, {trainer.steps:,} steps of "
        f"{recipe.training.batch_size} x {recipe.training.segment_length}, "
        f"{str(trainer.precision).removeprefix('torch.')} on {network.embedding.weight.device}"
    )
    with Journal(run, steps=trainer.steps, done=trainer.progress.step, console=console) as journal:
        trainer.run(journal)
    trainer.load_best()
    details = _details(recipe, corpus, trainer)
    save_checkpoint(out, network.eval(), tokenizer, details=details)
    return trainer


def _check_run(recipe: Recipe, run: Path, *, resume: bool) -> None:
    """Hold a run folder to one recipe; only its length may change between resumptions."""
    path, values = run / "recipe.json", recipe.to_values()
    if resume:
        if not (run / "state.safetensors").exists():
            raise ValueError(f"{run} holds no state to resume")
        before = json.loads(path.read_text(encoding="utf-8"))
        for table, settings in values.items():
            for name in settings.keys() | before[table].keys():
                changed = settings.get(name) != before[table].get(name)
                if changed and (table, name) not in _MAY_CHANGE:
                    raise ValueError(
                        f"{run} was begun with {table}.{name} = {before[table].get(name)!r}, "
                        f"not {settings.get(name)!r}"
                    )
    elif (run / "state.safetensors").exists():
        raise ValueError(f"{run} holds a run already: resume it, or remove the folder")
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


_MAY_CHANGE = {
    ("training", name)
    for name in ("epochs", "patience", "validate_every", "validate_tokens", "save_every")
}


def _tokenizer(recipe: Recipe, corpus: Corpus, path: Path, console: Console) -> Tokenizer:
    if path.exists():
        return load_tokenizer(path.read_text(encoding="utf-8"))
    kind = recipe.tokenizer.kind
    with console.status(f"learning a {kind} vocabulary"):
        lines = corpus_lines(corpus.train, tokenised=kind == "wikitext")
        tokenizer = train_tokenizer(kind, lines, vocab_size=recipe.tokenizer.vocab_size)
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    return tokenizer


def _prepare(
    paths: Sequence[Path], tokenizer: Tokenizer, run: Path, console: Console
) -> list[Dataset]:
    datasets = []
    with Progress(console=console, transient=True) as bar:
        for path in paths:
            task = bar.add_task(f"tokenising {path.name}, lines", total=None)
            datasets.append(
                prepare(
                    path,
                    tokenizer,
                    run / "data",
                    progress=lambda lines, task=task: bar.advance(task, lines),  # type: ignore[misc]
                )
            )
    return datasets


def _names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its folder's where the files are called alike."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{path.resolve().parent.name}/{path.stem}" for path in paths]


def _details(recipe: Recipe, corpus: Corpus, trainer: Trainer) -> dict[str, Any]:
    progress = trainer.progress
    return {
        "recipe": recipe.to_values(),
        "corpus": {
            "train": _names(corpus.train),
            "valid": _names(corpus.valid),
            "tokens": len(trainer.dataset),
        },
        "training": {
            "steps": progress.step,
            "epochs": round(progress.step / trainer.steps_per_epoch, 3),
            "hours": round(progress.seconds / 3600, 2),
            "core_hours": round(progress.core_seconds / 3600, 2),
            "threads": torch.get_num_threads(),
            "device": _device_name(trainer.device),
            "precision": str(trainer.precision).removeprefix("torch."),
            "best_step": progress.best_step,
            "validation_nats_per_token": progress.best_loss,
        },
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU"
