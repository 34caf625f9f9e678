"""Training speed against pytorch/examples' word_language_model, tokens per second.

Both sides train a tied 2x256 LSTM on WikiText-2 with the exact softmax over 33,278 words, batch 20,
35 steps, dropout 0.2, each in a process of its own that runs all the time it is measured and is
stopped while another is (SIGSTOP), so that slow and fast moments of the machine fall on all alike.

::

    git clone https://github.com/pytorch/examples
    python -m benchmarks.training --peer examples/word_language_model --data wikitext-2

The peer runs as it is shipped, and once more with the allocator settings that `nextword train`
gives itself. The folder of ``--data`` holds train.txt, valid.txt and test.txt.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.allocator import tuned_environment

TOKENS = 20 * 35  # in a step
EVERY = 10  # steps between the lines that both sides print
NETWORK = {
    "kind": "lstm",
    "embedding_size": 256,
    "hidden_size": 256,
    "num_layers": 2,
    "dropout": 0.2,
    "tied": True,
}


class Side:
    """A training process that prints a line every few steps, and can be stopped in between."""

    def __init__(self, name: str, command: list[str], folder: Path, *, tuned: bool) -> None:
        """Start the process and wait for its first line, which comes behind all preparation.

        Args:
            name: Row of the table.
            command: Prints "batches" in a line every few steps.
            folder: Where it runs.
            tuned: With the allocator settings of `nextword train`.
        """
        self.name = name
        self.speeds: list[float] = []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        if tuned:
            environment = tuned_environment(environment) or environment
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        self._next_line()
        self._process.send_signal(signal.SIGSTOP)

    def measure(self, lines: int) -> None:
        """Run for this many lines, the first not counted, and note tokens per second."""
        self._process.send_signal(signal.SIGCONT)
        self._next_line()
        began = time.perf_counter()
        for _ in range(lines - 1):
            self._next_line()
        seconds = time.perf_counter() - began
        self._process.send_signal(signal.SIGSTOP)
        self.speeds.append((lines - 1) * EVERY * TOKENS / seconds)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(timeout=10)

    def _next_line(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "batches" in line:
                return
        raise RuntimeError(f"{self.name} ended with exit code {self._process.wait(timeout=10)}")


def train_nextword(data: Path, precision: str) -> None:
    """Be one side: train without end, and print a line every few steps."""
    import torch

    from models.networks import build_network, network_config
    from models.tokenizers import train_tokenizer
    from training.dataset import corpus_lines, prepare
    from training.recipe import Recipe
    from training.trainer import Trainer

    recipe = Recipe.from_values(
        {
            "tokenizer": {"kind": "wikitext", "vocab_size": 33_278},
            "network": NETWORK,
            "training": {"batch_size": 20, "segment_length": 35, "precision": precision},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = data / "train.txt"
        lines = corpus_lines([path], tokenised=True)
        tokenizer = train_tokenizer(
            recipe.tokenizer.kind, lines, vocab_size=recipe.tokenizer.vocab_size
        )
        dataset = prepare(path, tokenizer, Path(folder))
        torch.manual_seed(1)
        sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
        network = build_network(network_config({**NETWORK, **sizes}))
        trainer = Trainer(network, recipe, dataset, {}, Path(folder))
        while True:
            for _ in range(EVERY):
                loss = trainer.train_step()
                trainer.progress.step += 1
            print(f"{trainer.progress.step} batches, loss {loss:.3f}", flush=True)


def main() -> None:
    """Measure all sides in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", type=Path, help="folder that holds the peer's main.py")
    parser.add_argument("--data", type=Path, required=True, help="folder of WikiText-2")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each side")
    parser.add_argument("--lines", type=int, default=4, help=f"lines, {EVERY} steps each, a round")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--side", choices=["float32", "bfloat16"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return train_nextword(arguments.data, arguments.side)
    if not arguments.peer:
        parser.error("--peer is required")

    data = str(arguments.data.resolve())
    ours = [sys.executable, "-m", "benchmarks.training", "--data", data, "--side"]
    theirs = [sys.executable, "-u", "main.py", "--data", data, "--emsize", "256", "--nhid", "256"]
    theirs += ["--nlayers", "2", "--tied", "--batch_size", "20", "--bptt", "35"]
    theirs += ["--dropout", "0.2", "--log-interval", str(EVERY), "--save", os.devnull]
    # Stopped sides would outlive this process: end them, and report, also where it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    here = Path(__file__).parent.parent
    sides: list[Side] = []
    console = Console(stderr=True)
    try:
        with console.status("starting all sides; each prepares its data first"):
            for name, command, folder, tuned in (
                ("pytorch/examples as shipped", theirs, arguments.peer, False),
                ("pytorch/examples, same allocator settings", theirs, arguments.peer, True),
                ("nextword, float32", [*ours, "float32"], here, True),
                ("nextword, bfloat16", [*ours, "bfloat16"], here, True),
            ):
                sides.append(Side(name, command, folder, tuned=tuned))
        for _ in track(range(arguments.rounds), description="rounds", console=console):
            for side in sides:
                side.measure(arguments.lines)
    finally:
        for side in sides:
            side.stop()
        if sides and sides[-1].speeds:
            report(sides, arguments.json)


def report(sides: list[Side], path: Path | None) -> None:
    """Print medians, spread and ratios to the first side; write them as JSON where asked."""
    table = Table("side", "tokens/s, median", "lowest … highest", "ratio")
    first = statistics.median(sides[0].speeds)
    for side in sides:
        median = statistics.median(side.speeds)
        spread = f"{min(side.speeds):,.0f} … {max(side.speeds):,.0f}"
        table.add_row(side.name, f"{median:,.0f}", spread, f"{median / first:.2f}")
    Console().print(table)
    if path:
        path.write_text(json.dumps({side.name: side.speeds for side in sides}, indent=2) + "\n")


if __name__ == "__main__":
    main()
