"""``nextword train``, ``calibrate``, ``evaluate``: the one door from the command to ``training``.

Everything of ``training`` is imported inside the functions, so that a server never loads it.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from models.errors import NextwordError

if TYPE_CHECKING:
    from models.language_model import LanguageModel
    from training.evaluate import Evaluation
    from training.metrics import Metric

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

USER_ERROR, STOPPED = 2, 130  # exit codes; 128 + SIGINT, as shells have it

Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads; by default one a core.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, …; by default the GPU where there is one.")
]

Lines = Annotated[
    bool, typer.Option("--lines", help="Let every line begin anew, as n-gram models do.")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="Name of a recipe that ships, or a .toml file.")],
    data: Annotated[list[Path], typer.Option(help="Text to learn from; repeatable.")],
    valid: Annotated[list[Path], typer.Option(help="Text to choose weights on; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the finished checkpoint.")],
    run: Annotated[
        Path | None,
        typer.Option(help="Folder for what --resume needs, log and curves  [default: runs/NAME]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stands.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Override a setting; repeatable."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Positions for word-level metrics at the end; 0 for none.")
    ] = 2000,
    calibrated: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Fit its temperature at the end.")
    ] = True,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Train a model on your own text, and write a checkpoint with its model card."""
    restart_tuned()
    run = run or Path("runs") / out.resolve().name

    def command(*more: str, shorten: bool) -> str:
        options = [("--recipe", Path(recipe).name if shorten else recipe)]
        options += [("--data", _short(path) if shorten else str(path)) for path in data]
        options += [("--valid", _short(path) if shorten else str(path)) for path in valid]
        options += [("--out", _short(out) if shorten else str(out))]
        options += [] if shorten else [("--run", str(run))]
        options += [("--set", setting) for setting in settings or ()]
        options += [("--threads", str(threads))] if threads else []
        options += [("--device", device)] if device else []
        return shlex.join(["nextword", "train", *(x for pair in options for x in pair), *more])

    with user_errors(f"go on with:\n{command('--resume', shorten=False)}"):
        from training.recipe import load_recipe
        from training.report import write_report
        from training.train import Corpus
        from training.train import train as run_training

        check_files([*data, *valid])
        if out.exists() and not out.is_dir():
            fail(f"{out} is a file, not a folder")
        use_threads(threads)
        trainer = run_training(
            load_recipe(recipe, settings or ()),
            Corpus(data, valid),
            out=out,
            run=run,
            resume=resume,
            device=device,
            command=command(shorten=True),
        )
        if not trainer.processes.main:
            return
        write_report(out, [], run=run)  # a card to begin with: measuring takes its time
        if calibrated:
            _calibrate(out, valid, device)
        evaluations = evaluate_all(load(out, device), valid, sample=sample, seed=0)
        write_report(out, evaluations, run=run)
        _print_table(out.resolve().name, evaluations, Console(stderr=True))
        typer.echo(f"{out}: done; its card is {out / 'README.md'}")


@app.command()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder.")],
    data: Annotated[
        list[Path], typer.Option(help="Text that it was not trained on; repeatable, all alike.")
    ],
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Fit the temperature at which a checkpoint's probabilities hold, and store it there."""
    restart_tuned()
    with user_errors("nothing was changed"):
        check_files(data)
        use_threads(threads)
        _calibrate(checkpoint, data, device)
        typer.echo(
            f"{checkpoint}: the figures in its card are older; renew them with\n"
            + shlex.join(
                ["nextword", "evaluate", str(checkpoint)]
                + [part for path in data for part in ("--data", str(path))]
                + ["--card"]
            )
        )


@app.command()
def evaluate(
    checkpoint: Annotated[
        list[Path], typer.Argument(help="A checkpoint's folder; several with --ensemble.")
    ],
    data: Annotated[list[Path], typer.Option(help="Text to measure on; repeatable.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, definitions included.")] = (
        False
    ),
    sample: Annotated[
        int, typer.Option(min=0, help="Positions for word-level metrics; 0 for none.")
    ] = 2000,
    history: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="LINES",
            help="Lines, of documents drawn at random, to score alone and with the lines before "
            "them as history.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawings.")] = 0,
    lines: Lines = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw reliability diagrams into this PNG.")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Store the metrics in the checkpoint, in place of all that were there, and "
            "rewrite its card; give all files at once.",
        ),
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="With --card: the run's folder, whose losses to draw.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the mean of the checkpoints' probabilities.")
    ] = False,
    online: Annotated[
        str | None,
        typer.Option(
            metavar="cache|dynamic",
            help="Measure also what the model is worth when it may use what it has read so far: "
            "by a neural cache, or by learning on.",
        ),
    ] = None,
    online_set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Setting of --online: size, theta, share; or rate, decay, epsilon, segment.",
        ),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(help="With --online: validation text that the settings are searched on."),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(help="With --online dynamic: text that the checkpoint was trained on."),
    ] = None,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Measure a checkpoint on text: perplexity, words found, keystrokes saved, calibration."""
    restart_tuned()
    with user_errors("nothing was changed"):
        from training.extras import require
        from training.report import picture_reliability, write_report

        check_files([*data, *(path for path in (tune, statistics) if path)])
        if ensemble:
            if picture or card or online or history:
                fail("--ensemble measures perplexities, and goes with --data, --lines and --json")
            use_threads(threads)
            _evaluate_ensemble(checkpoint, data, device, lines_alone=lines, as_json=as_json)
            return
        if len(checkpoint) > 1:
            fail("several checkpoints are measured together with --ensemble, or one at a time")
        if not online and (tune or statistics or online_set):
            fail("--tune, --statistics and --online-set go with --online")
        if picture or card:
            require("matplotlib")
        if picture and picture.suffix.lower() != ".png":
            fail(f"--picture must end in .png, not {picture.name}")
        if run and not (run / "log.jsonl").exists():
            fail(f"{run} holds no log of a run")
        use_threads(threads)
        model = load(checkpoint[0], device)
        measure_online = _online(model, online, online_set or (), tune, statistics)
        evaluations = evaluate_all(
            model, data, sample=sample, history=history, seed=seed, lines_alone=lines
        )
        for evaluation, path in zip(evaluations, data, strict=True):
            evaluation.metrics.update(measure_online(path))
        if picture:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture_reliability(evaluations, picture)
        if card:
            write_report(checkpoint[0], evaluations, run=run)
        if as_json:
            values = [evaluation.to_values() for evaluation in evaluations]
            answer = {"model": model.name, "checksum": model.checksum, "evaluations": values}
            typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        else:
            _print_table(model.name, evaluations, Console())


def _online(
    model: "LanguageModel",
    method: str | None,
    overrides: Sequence[str],
    tuned_on: Path | None,
    statistics: Path | None,
) -> "Callable[[Path], dict[str, Metric]]":
    """Return what measures a file online; nothing of it where that was not asked for."""
    if method is None:
        return lambda path: {}
    from training.online import online_metric, online_settings, read_statistics
    from training.online import tune as search

    settings = online_settings(method, overrides)
    gradients = read_statistics(model, settings, statistics)
    if tuned_on:
        settings = search(model, tuned_on, settings, gradients)
        found = " ".join(f"--online-set {name}={value:g}" for name, value in vars(settings).items())
        typer.echo(f"best on {tuned_on}: {found}", err=True)
    return lambda path: dict([online_metric(model, path, settings, gradients)])


def _evaluate_ensemble(
    folders: Sequence[Path],
    data: Sequence[Path],
    device: str | None,
    *,
    lines_alone: bool,
    as_json: bool,
) -> None:
    from training.corpora import data_name
    from training.ensemble import ensemble_metrics

    models = [load(folder, device) for folder in folders]
    metrics = {
        data_name(path): ensemble_metrics(models, path, lines_alone=lines_alone) for path in data
    }
    names = " + ".join(model.name for model in models)
    if as_json:
        values = [
            {"data": name, "metrics": {key: metric.to_values() for key, metric in found.items()}}
            for name, found in metrics.items()
        ]
        answer = {
            "models": [{"model": m.name, "checksum": m.checksum} for m in models],
            "evaluations": values,
        }
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print_metrics(names, metrics, Console())


def _calibrate(folder: Path, data: Sequence[Path], device: str | None) -> None:
    from models.checkpoint import update_config
    from training.corpora import data_name
    from training.temperature import fit_temperature

    model = load(folder, device)
    fit = fit_temperature(model, data)
    noted = {**vars(fit), "data": [data_name(path) for path in data]}
    details = {**model.details, "calibration": noted}
    update_config(folder, temperature=fit.temperature, details=details)
    typer.echo(
        f"temperature {fit.temperature:.4f} (was {model.temperature:.4f}): "
        f"{fit.after:.5f} nats per token that begins a word (was {fit.before:.5f})",
        err=True,
    )


def evaluate_all(
    model: "LanguageModel",
    paths: Sequence[Path],
    *,
    sample: int,
    history: int = 0,
    seed: int,
    lines_alone: bool = False,
) -> "list[Evaluation]":
    """Measure a model on each file, with bars that show how far it is."""
    from training.corpora import data_name
    from training.evaluate import evaluate as measure

    evaluations = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for path in paths:
            task = bar.add_task(data_name(path), total=None)

            def show(what: str, done: int, total: int, path: Path = path, task: int = task) -> None:
                description = f"{data_name(path)}, {what}"
                bar.update(task, description=description, completed=done, total=total)  # type: ignore[arg-type]

            evaluations.append(
                measure(
                    model,
                    path,
                    sample=sample,
                    history=history,
                    seed=seed,
                    lines_alone=lines_alone,
                    progress=show,
                )
            )
            bar.remove_task(task)
    return evaluations


def _print_table(name: str, evaluations: "Sequence[Evaluation]", console: Console) -> None:
    _print_metrics(name, {e.data: e.metrics for e in evaluations}, console)


def _print_metrics(
    name: str, files: "Mapping[str, Mapping[str, Metric]]", console: Console
) -> None:
    from training.card import format_metric, metric_order, metric_title

    table = Table("", title=name, caption="± half a 95% interval; --json tells the definitions")
    for data in files:
        table.add_column(data, justify="right")
    columns = list(files.values())
    for metric in metric_order(list(columns[0])):
        values = [metrics[metric].to_values() for metrics in columns]
        table.add_row(metric_title(metric), *(format_metric(metric, value) for value in values))
    console.print(table)


def load(folder: Path, device: str | None) -> "LanguageModel":
    """Load a checkpoint onto a device."""
    from models.checkpoint import load_checkpoint
    from training.device import pick_device

    model = load_checkpoint(folder)
    model.network.to(pick_device(device))
    return model


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads; None leaves it as it is."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def check_files(paths: Sequence[Path]) -> None:
    """Fail unless all are files."""
    for path in paths:
        if not path.exists():
            fail(f"{path}: no such file")
        if not path.is_file():
            fail(f"{path} is not a file")


def _short(path: Path) -> str:
    """Return a path's folder and name: a card tells nobody where somebody keeps files."""
    resolved = path.resolve()
    return f"{resolved.parent.name}/{resolved.name}"


def restart_tuned() -> None:
    """Restart the command with allocator settings; a program that calls it, say a test, stays."""
    if Path(sys.argv[0]).name in ("nextword", "cli.py", "cli_training.py"):
        import os

        from training import allocator

        allocator.restart_tuned(os.environ, sys.orig_argv)


def fail(message: str) -> NoReturn:
    """End the command with one line."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(USER_ERROR)


@contextmanager
def user_errors(stopped: str) -> Iterator[None]:
    """Turn what a user can mend into one line, and a stop into how to go on."""
    from training.interrupt import TrainingStopped

    try:
        yield
    except TrainingStopped as stop:
        typer.echo(f"{stop}; {stopped}", err=True)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {stopped}", err=True)
        raise typer.Exit(STOPPED) from None
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (NextwordError, ValueError, FloatingPointError) as error:
        fail(" ".join(str(error).split()))


if __name__ == "__main__":
    app()
