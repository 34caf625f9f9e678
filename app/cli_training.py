"""``nextword train``: text becomes a checkpoint, its temperature fitted and its card written.

Everything of ``training`` is imported inside the functions, so that a server never loads it.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app import cli_evaluate
from app.cli_common import (
    Device,
    Threads,
    check_files,
    fail,
    load,
    restart_tuned,
    use_threads,
    user_errors,
)
from app.cli_evaluate import evaluate_all, fit_and_store, print_evaluations

_SAMPLE = 2000  # positions

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(cli_evaluate.app)


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
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Checkpoint whose weights and vocabulary to begin with: to adapt it."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint whose predictions to learn from too, with its vocabulary."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stands.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="Override a setting; repeatable."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Positions for word-level metrics at the end; 0 for none.")
    ] = _SAMPLE,
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
        options += [("--from", _short(start) if shorten else str(start))] if start else []
        options += [("--teacher", _short(teacher) if shorten else str(teacher))] if teacher else []
        options += [("--set", setting) for setting in settings or ()]
        options += [("--threads", str(threads))] if threads else []
        options += [("--device", device)] if device else []
        options += [("--sample", str(sample))] if sample != _SAMPLE else []
        more = more if calibrated else ("--no-calibrate", *more)
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
            start=start,
            taught_by=teacher,
            resume=resume,
            device=device,
            command=command(shorten=True),
        )
        if not trainer.processes.main:
            return
        write_report(out, [], run=run)  # a card to begin with: measuring takes its time
        if calibrated:
            fit_and_store(out, valid, device)
        evaluations = evaluate_all(load(out, device), valid, sample=sample, seed=0)
        write_report(out, evaluations, run=run)
        print_evaluations(out.resolve().name, evaluations, Console(stderr=True))
        typer.echo(f"{out}: done; its card is {out / 'README.md'}")


def _short(path: Path) -> str:
    """Return a path's folder and name: a card tells nobody where somebody keeps files."""
    resolved = path.resolve()
    return f"{resolved.parent.name}/{resolved.name}"


if __name__ == "__main__":
    app()
