"""One training run, from text files to a checkpoint folder."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from models.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint, update_config
from models.networks import build_network, network_config
from models.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from training.corpora import data_name
from training.dataset import Dataset, concatenate, corpus_lines, prepare
from training.device import describe_device, pick_device
from training.extras import require
from training.files import write_text
from training.interrupt import StopRequest, TrainingStopped
from training.journal import Journal, NoJournal
from training.processes import joined_processes
from training.recipe import Recipe
from training.start import hold_to_base, hold_to_teacher, load_base, load_teacher, note_of
from training.teacher import Teacher
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
    start: Path | None = None,
    taught_by: Path | None = None,
    resume: bool = False,
    device: str | None = None,
    command: str = "",
    console: Console | None = None,
) -> Trainer:
    """Train and write a checkpoint.

    Args:
        recipe: Tokenizer, network, optimizer and training settings.
        corpus: Text files.
        out: Folder of the finished checkpoint.
        run: Folder of what only this run needs: prepared data, states for resuming, journal.
        start: Checkpoint whose weights and vocabulary to begin with; by default drawn weights and
            the text's own vocabulary.
        taught_by: Checkpoint whose predictions to learn from too, and whose vocabulary to share.
        resume: Go on from the state in ``run``; from the beginning, where the run was killed before
            it saved one.
        device: ``cpu``, ``cuda``, …; by default the GPU where there is one.
        command: How the run was asked for, for the model card.
        console: Where progress is shown; by default the terminal's standard error.

    Raises:
        ValueError: ``run`` holds another run, or none to resume; or a text is empty, too short, not
            UTF-8, or another than before; or ``start`` is of another network than the recipe's, or
            is ``out``; or ``taught_by`` has another vocabulary.
        CheckpointError: There is no sound checkpoint at ``start`` or ``taught_by``.
        FloatingPointError: The loss is no longer a number.
        TrainingStopped: By Ctrl-C or SIGTERM; the state is saved.
        MissingExtraError: A package that draws or writes events is missing.
    """
    require("matplotlib", "tensorboard")
    console = console or Console(stderr=True)
    torch_device = pick_device(device)
    if start and start.resolve() == out.resolve():
        raise ValueError(f"{out} is the checkpoint to begin with: write the new one elsewhere")
    base = load_base(start, recipe) if start else None
    note = note_of(base) if base else None
    teacher = load_teacher(taught_by, recipe, base) if taught_by else None
    teacher_note = {"name": teacher.name, "weights": teacher.checksum} if teacher else None
    given = base or teacher
    if recipe.training.base_share and not base:
        raise ValueError("training.base_share needs a checkpoint to begin with: give --from")
    with joined_processes(torch_device) as processes:
        if not processes.main:
            console = Console(quiet=True)
        with processes.main_first():
            resuming = resume or not processes.main
            run.mkdir(parents=True, exist_ok=True)
            _check_run(recipe, run, resume=resuming, write=processes.main)
            hold_to_base(run, note, resume=resuming)
            hold_to_teacher(run, teacher_note, resume=resuming)
            tokenizer = (
                given.tokenizer
                if given
                else _tokenizer(recipe, corpus, run / "tokenizer.json", console, reuse=resuming)
            )
            parts = _prepare(corpus.train, tokenizer, run, console)
            names = _names(corpus.valid)
            valid = dict(zip(names, _prepare(corpus.valid, tokenizer, run, console), strict=True))
            _check_corpus(run / "corpus.json", corpus, [*parts, *valid.values()], resume=resuming)
            repeated = _repeated(recipe, corpus.train, parts)
            dataset = concatenate(repeated, run / "data", write=processes.main)

        torch.manual_seed(recipe.training.seed)
        sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
        network = build_network(network_config({**recipe.network, **sizes}))
        if base:
            network.load_state_dict(base.network.state_dict())
        network.to(torch_device)
        trainer = Trainer(
            network,
            recipe,
            dataset,
            valid,
            run,
            base=base.network if base else None,
            teacher=Teacher(teacher, recipe.training.teacher_share, torch_device)
            if teacher
            else None,
            processes=processes,
        )
        if resume and trainer.state_path.exists():
            trainer.resume()
        console.print(
            f"{sum(p.numel() for p in network.parameters()):,} parameters, "
            f"{tokenizer.vocab_size:,} token ids, {len(dataset):,} tokens, {trainer.steps:,} steps "
            f"of {recipe.training.batch_size} x {recipe.training.segment_length}, "
            f"{str(trainer.precision).removeprefix('torch.')} on {trainer.device}"
            + f", {processes.count} processes"
            * (processes.count > 1),
            soft_wrap=True,
        )
        done = trainer.progress.step
        with (
            Journal(run, steps=trainer.steps, done=done, console=console)
            if processes.main
            else NoJournal()
        ) as journal:
            with StopRequest() as stop:
                trainer.run(journal, stop=stop)
            if not trainer.finished:
                raise TrainingStopped(trainer.progress.step, trainer.steps)
        processes.wait()  # for the best weights to be written
        trainer.load_best()
        details = _details(recipe, corpus, trainer, command, tokens=sum(map(len, parts)))
        if note:
            details["training"]["began_with"] = note
        if teacher_note:
            details["training"]["taught_by"] = teacher_note
        _save(out, trainer, tokenizer, details, console)
    return trainer


def _save(
    out: Path, trainer: Trainer, tokenizer: Tokenizer, details: dict[str, Any], console: Console
) -> None:
    """Write the checkpoint, and measure what its storage costs: the trainer gets it back."""
    storage = trainer.recipe.training.storage
    before = trainer.losses()
    dtype = getattr(torch, storage)
    if trainer.processes.main:
        save_checkpoint(out, trainer.network.eval(), tokenizer, details=details, dtype=dtype)
    trainer.processes.wait()
    trainer.network.load_state_dict(load_checkpoint(out).network.state_dict())
    after = trainer.losses()
    cost = {name: 100 * math.expm1(loss - before[name]) for name, loss in after.items()}
    details["training"]["validation_nats_per_token"] = sum(before.values()) / len(before)
    details["training"]["storage_cost_percent"] = {n: round(c, 4) for n, c in cost.items()}
    if trainer.processes.main:
        update_config(out, details=details)
    console.print(
        f"stored as {storage}, {(out / WEIGHTS).stat().st_size / 1e6:.2f} MB; perplexity per token "
        + ", ".join(f"{math.exp(after[n]):.2f} ({c:+.3f}%) on {n}" for n, c in cost.items()),
        soft_wrap=True,
    )


def _repeated(recipe: Recipe, paths: Sequence[Path], parts: Sequence[Dataset]) -> list[Dataset]:
    """Return each file's data as often as an epoch reads it."""
    repeats = recipe.training.repeats
    times = [repeats.get(path.resolve().parent.name, 1) for path in paths]
    return [part for part, n in zip(parts, times, strict=True) for _ in range(n)]


def _check_run(recipe: Recipe, run: Path, *, resume: bool, write: bool = True) -> None:
    """Hold a run folder to one recipe but for ``_MAY_CHANGE``."""
    path, values = run / "recipe.json", recipe.to_values()
    if resume:
        if not path.exists():
            raise ValueError(f"{run} holds no run to resume")
        try:
            before = Recipe.from_values(json.loads(path.read_text(encoding="utf-8")))
            tables = before.to_values()  # settings that are newer than the run get their defaults
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is not a recipe that a run has left") from None
        for table, settings in values.items():
            for name in settings.keys() | tables[table].keys():
                old, new = tables[table].get(name), settings.get(name)
                if old != new and (table, name) not in _MAY_CHANGE:
                    raise ValueError(f"{run} was begun with {table}.{name} = {old!r}, not {new!r}")
    elif (run / "state.safetensors").exists():
        raise ValueError(f"{run} holds a run already: give --resume, or remove the folder")
    if write:
        write_text(path, json.dumps(values, indent=2) + "\n")


_MAY_CHANGE = {
    *(("training", name) for name in ("epochs", "sampled_share", "patience", "validate_every")),
    *(("training", name) for name in ("save_every", "storage", "base_share")),
}


def _check_corpus(path: Path, corpus: Corpus, datasets: Sequence[Dataset], *, resume: bool) -> None:
    """Hold a run folder to one text, by the number of tokens in each file."""
    names = [*_names(corpus.train), *_names(corpus.valid)]
    tokens = [[name, len(dataset)] for name, dataset in zip(names, datasets, strict=True)]
    if resume and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != tokens:
            raise ValueError(f"{path.parent} was begun with the tokens {before}, not {tokens}")
    else:
        write_text(path, json.dumps(tokens) + "\n")


def _tokenizer(
    recipe: Recipe, corpus: Corpus, path: Path, console: Console, *, reuse: bool
) -> Tokenizer:
    """Learn the vocabulary; one left by a run that never got to save is of that run's text."""
    if reuse and path.exists():
        return load_tokenizer(path.read_text(encoding="utf-8"))
    kind = recipe.tokenizer.kind
    with console.status(f"learning a {kind} vocabulary"):
        lines = corpus_lines(corpus.train, tokenised=kind == "wikitext")
        tokenizer = train_tokenizer(kind, lines, vocab_size=recipe.tokenizer.vocab_size)
    write_text(path, tokenizer.to_json())
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
    """Return a name for each file, its folder's and its own, and a number where that is taken."""
    names: list[str] = []
    plain = [data_name(path) for path in paths]
    for i, name in enumerate(plain):
        taken = plain[:i].count(name)
        names.append(f"{name} ({taken + 1})" if taken else name)
    return names


def _details(
    recipe: Recipe, corpus: Corpus, trainer: Trainer, command: str, *, tokens: int
) -> dict[str, Any]:
    progress = trainer.progress
    return {
        "recipe": recipe.to_values(),
        "corpus": {
            "train": _names(corpus.train),
            "valid": _names(corpus.valid),
            "tokens": tokens,
        },
        "training": {
            "steps": progress.step,
            "epochs": round(progress.step / trainer.steps_per_epoch, 3),
            "hours": round(progress.seconds / 3600, 4),
            "core_hours": round(progress.core_seconds / 3600, 4),
            "threads": torch.get_num_threads(),
            "processes": trainer.processes.count,
            "cores": os.cpu_count(),
            "device": describe_device(trainer.device),
            "torch": torch.__version__,
            "command": command,
            "precision": str(trainer.precision).removeprefix("torch."),
            "best_step": progress.best_step,
        },
    }
