"""``nextword evaluate`` and ``calibrate``: what a checkpoint is worth on text.

Everything of ``training`` is imported inside the functions, so that a server never loads it.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from app.cli_common import (
    Device,
    Lines,
    Threads,
    check_files,
    fail,
    load,
    restart_tuned,
    use_threads,
    user_errors,
)

if TYPE_CHECKING:
    from models.language_model import LanguageModel
    from training.evaluate import Evaluation
    from training.metrics import Metric

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


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
        fit_and_store(checkpoint, data, device)
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
        if online and lines:
            fail("--online reads on from line to line, and --lines lets every line begin anew")
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
            print_evaluations(model.name, evaluations, Console())


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
    from training.online import SEARCHED, online_metric, online_settings, read_statistics
    from training.online import tune as search

    settings = online_settings(method, overrides)
    given = {override.partition("=")[0] for override in overrides}
    if tuned_on and (both := sorted(given.intersection(SEARCHED[method]))):
        fail(f"--tune searches {both[0]}: leave --online-set {both[0]}=… out, or --tune")
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


def fit_and_store(folder: Path, data: Sequence[Path], device: str | None) -> None:
    """Fit a checkpoint's temperature on text, and write it into its configuration."""
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


def print_evaluations(name: str, evaluations: "Sequence[Evaluation]", console: Console) -> None:
    """Print what was measured, a column a file."""
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
