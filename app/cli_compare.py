"""``nextword compare``: models side by side, on the same words by the same rules."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
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
from app.cli_evaluate import evaluate_all

if TYPE_CHECKING:
    from models.language_model import LanguageModel
    from models.tokenizers import Tokenizer
    from training.compare import Entry
    from training.ngram import NGram

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def compare(
    checkpoints: Annotated[list[Path], typer.Argument(help="Folders of checkpoints.")],
    data: Annotated[list[Path], typer.Option(help="Text to measure on; repeatable.")],
    ngram: Annotated[
        Path | None,
        typer.Option(help="ARPA file of an n-gram model to compare with."),
    ] = None,
    lines: Lines = False,
    sample: Annotated[
        int, typer.Option(min=0, help="Positions for word-level metrics; 0 for none.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their drawing.")] = 0,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables into this Markdown file.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG.")] = None,
    positions: Annotated[
        Path | None,
        typer.Option(help="Draw loss against the place in a text into this PNG, and no more."),
    ] = None,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Measure checkpoints, and an n-gram model, on the same text at the same positions."""
    restart_tuned()
    with user_errors("nothing was written"):
        from training.compare import COLUMNS, rows
        from training.compare import markdown as markdown_of
        from training.extras import require

        check_files([*data, *([ngram] if ngram else [])])
        if picture or positions:
            require("matplotlib")
        for path in (picture, positions):
            if path and path.suffix.lower() != ".png":
                fail(f"a picture's name must end in .png, not {path.name}")
        use_threads(threads)
        models = {folder: load(folder, device) for folder in checkpoints}
        if positions:
            _draw_positions([*models.values()], data, positions)
            return
        baseline = _read_ngram(ngram, [*models.values()]) if ngram else None
        entries = [
            _measure(folder, model, data, lines=lines, sample=sample, seed=seed)
            for folder, model in models.items()
        ]
        if baseline:
            entries.append(_measure_ngram(*baseline, data, sample=sample, seed=seed))
        for file, evaluation in enumerate(entries[0].evaluations):
            head, *body = rows(entries, file)
            table = Table(*head[:1], title=f"{evaluation.data}: {evaluation.text['read']}")
            for column in head[1:]:
                table.add_column(column, justify="right")
            for row in body:
                table.add_row(*row)
            Console().print(table)
        if markdown:
            markdown.parent.mkdir(parents=True, exist_ok=True)
            markdown.write_text(markdown_of(entries), encoding="utf-8")
        if picture:
            from training.plots import draw_comparison

            picture.parent.mkdir(parents=True, exist_ok=True)
            drawn = {f"{entry.name} ({entry.kind})": entry.evaluations for entry in entries}
            titles = {n: t for n, t in COLUMNS.items() if n in entries[0].evaluations[0].metrics}
            draw_comparison(titles, drawn, picture)


def _measure(
    folder: Path, model: "LanguageModel", data: list[Path], *, lines: bool, sample: int, seed: int
) -> "Entry":
    from training.compare import Entry, checkpoint_megabytes, step_milliseconds

    return Entry(
        name=model.name,
        kind=model.network.config.kind,
        megabytes=checkpoint_megabytes(folder),
        milliseconds=step_milliseconds(model),
        evaluations=evaluate_all(model, data, sample=sample, seed=seed, lines_alone=lines),
    )


def _read_ngram(path: Path, models: "list[LanguageModel]") -> "tuple[NGram, Tokenizer]":
    """Return the n-gram model, and the tokenizer whose units it reads."""
    from training.ngram import NGram

    for model in models:
        if model.tokenizer.unk_id is None:
            return NGram(path), model.tokenizer
    fail("--ngram needs a checkpoint with a subword tokenizer, which knows all words")


def _measure_ngram(
    ngram: "NGram", tokenizer: "Tokenizer", data: list[Path], *, sample: int, seed: int
) -> "Entry":
    from training.compare import Entry
    from training.ngram_evaluation import evaluate_ngram

    files = [ngram.path, *([ngram.spelling.path] if ngram.spelling else [])]
    return Entry(
        name=ngram.path.stem,
        kind=f"{len(ngram.orders)}-gram",
        megabytes=sum(file.stat().st_size for file in files) / 1e6,
        milliseconds=None,
        evaluations=[
            evaluate_ngram(ngram, file, tokenizer, sample=sample, seed=seed) for file in data
        ],
    )


def _draw_positions(models: "list[LanguageModel]", data: list[Path], picture: Path) -> None:
    from training.plots import draw_positions
    from training.positions import position_losses

    picture.parent.mkdir(parents=True, exist_ok=True)
    found = {f"{m.name} ({m.network.config.kind})": position_losses(m, data) for m in models}
    draw_positions(found, picture)
    for name, parts in found.items():
        told = ", ".join(f"{p.first}-{p.last}: {p.nats:.3f} ± {p.half:.3f}" for p in parts)
        typer.echo(f"{name}: {told}")
