"""What each regulariser of ``wikitext2-lstm`` is worth: the recipe without one of them at a time.

::

    python -m benchmarks.ablation PATH --picture docs/wikitext2-ablation.png

PATH is the folder of WikiText-2. Everything is a quarter of the recipe: the first quarter of the
training text, a third of the weights, steps of half the tokens, so that each of the 4.4 million
weights meets as many words, as often, as those of the whole do. The whole validation text is read
at the end of each run, and nowhere before it. Other seeds of the unchanged recipe tell how much of
a difference is chance.

A run takes a core some 15 minutes. Runs stay in ``runs/ablation``: a second call goes on with what
is missing, and a last one only reports.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

FOLDER = Path("runs/ablation")
QUARTER = (
    "network.embedding_size=128",
    "network.hidden_size=320",
    "training.batch_size=20",
    "training.softmax_samples=2048",
    "training.validate_every=1000000",
)
DROPOUTS = {
    "words dropped": ("regularization.word_dropout=0",),
    "input dropped": ("regularization.input_dropout=0",),
    "units between layers dropped": ("regularization.hidden_dropout=0",),
    "output dropped": ("regularization.output_dropout=0",),
    "recurrent weights dropped": ("regularization.weight_drop=0",),
    "penalties on activations": (
        "regularization.activation=0",
        "regularization.temporal_activation=0",
    ),
}
ALL = "all of these"
WITHOUT = {
    **DROPOUTS,
    "weight decay": ("optimizer.weight_decay=0",),
    "averaged weights": ("optimizer.average_decay=0",),
    ALL: (
        *(setting for settings in DROPOUTS.values() for setting in settings),
        "optimizer.weight_decay=0",
        "optimizer.average_decay=0",
    ),
}
WHOLE = {"seed 1": (), "seed 2": ("training.seed=2",), "seed 3": ("training.seed=3",)}

console = Console(width=None if sys.stdout.isatty() else 120)


def train(name: str, settings: Sequence[str], valid: Path) -> None:
    """Train a variant, or go on with it, unless it is done."""
    folder = FOLDER / name.replace(" ", "-")
    if (folder / "checkpoint").exists():
        return
    folder.mkdir(exist_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("nextword"), "train"]
    command += ["--recipe", "wikitext2-lstm", "--data", FOLDER / "train.txt", "--valid", valid]
    command += ["--out", folder / "checkpoint", "--run", folder / "run", "--threads", "1"]
    command += ["--sample", "0", "--no-calibrate"]
    command += [part for setting in (*QUARTER, *settings) for part in ("--set", setting)]
    if (folder / "run/state.safetensors").exists():
        command.append("--resume")
    with (folder / "output.txt").open("a") as output:
        status = subprocess.run(command, check=False, stdout=output, stderr=output).returncode
    console.print(f"{name}: {'done' if not status else f'failed, see {folder}/output.txt'}")


def losses(name: str) -> tuple[float, float] | None:
    """Return the loss of the last exact training steps and of validation, nats per token."""
    path = FOLDER / name.replace(" ", "-") / "run/log.jsonl"
    if not path.exists():
        return None
    log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    exact = [entry["loss"] for entry in log if "loss" in entry]
    valid = [entry["validation"] for entry in log if "validation" in entry]
    return (sum(exact) / len(exact), valid[-1]) if exact and valid else None


def table() -> str:
    """Return what is there so far, in Markdown, the most useful regulariser first."""
    whole = [found for name in WHOLE if (found := losses(name))]
    without = {name: found for name in WITHOUT if (found := losses(name))}
    mean = sum(valid for _, valid in whole) / len(whole)
    seeds = ", ".join(f"{math.exp(valid):.1f}" for _, valid in whole)
    training = sum(loss for loss, _ in whole) / len(whole)
    lines = [
        "| without | training, nats per token | validation | perplexity | worth |",
        "|---|---:|---:|---:|---:|",
        f"| (all kept; by seed {seeds}) | {training:.3f} | {mean:.3f} | {math.exp(mean):.1f} | |",
    ]
    for name, (loss, valid) in sorted(without.items(), key=lambda item: -item[1][1]):
        figures = f"{loss:.3f} | {valid:.3f} | {math.exp(valid):.1f}"
        lines.append(f"| {name} | {figures} | {math.expm1(valid - mean):+.1%} |")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Draw what perplexity gains by each regulariser alone, and the range of the seeds."""
    from matplotlib.figure import Figure

    whole = [found[1] for name in WHOLE if (found := losses(name))]
    mean = sum(whole) / len(whole)
    worth = {name: found[1] for name in WITHOUT if name != ALL and (found := losses(name))}
    names = sorted(worth, key=lambda name: worth[name])
    figure = Figure(figsize=(7.0, 3.6), dpi=120, layout="constrained")
    panel = figure.subplots()
    percents = [100 * math.expm1(worth[name] - mean) for name in names]
    bars = panel.barh(names, percents, color="#0072B2")
    panel.bar_label(bars, fmt="%+.1f", padding=3, fontsize=8)
    seeds = [100 * math.expm1(valid - mean) for valid in whole]
    panel.axvspan(min(seeds), max(seeds), color="#777777", alpha=0.4, label="by seed alone")
    panel.axvline(0, color="#777777", linewidth=0.8)
    panel.margins(x=0.12)
    panel.set_xlabel("validation perplexity without it, % more")
    panel.legend(frameon=False, loc="lower right")
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Run what is missing, as many at a time as asked for, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="folder of train.txt and valid.txt")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side")
    parser.add_argument("--picture", type=Path, help="where to draw the table, a PNG")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = (arguments.corpus / "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (FOLDER / "train.txt").write_text("".join(lines[: len(lines) // 4]), encoding="utf-8")
    valid = arguments.corpus / "valid.txt"
    with ThreadPoolExecutor(arguments.processes) as pool:
        variants = {**WHOLE, **WITHOUT}.items()
        list(pool.map(lambda variant: train(variant[0], variant[1], valid), variants))
    if not any(map(losses, WHOLE)):
        raise SystemExit("no run of the unchanged recipe has come to its end")
    text = table()
    (FOLDER / "ablation.md").write_text(text + "\n", encoding="utf-8")
    console.print(Markdown(text))
    if arguments.picture:
        draw(arguments.picture)


if __name__ == "__main__":
    main()
