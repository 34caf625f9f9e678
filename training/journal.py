"""What a person sees of a training run: a progress bar, TensorBoard events, a log, a picture."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.files import write_text
from training.plots import draw_losses

LOG, LOSS_PICTURE = "log.jsonl", "loss.png"
_LOG_SECONDS = 5.0


class Journal:
    """Writes ``log.jsonl`` and TensorBoard events into the run folder, and a bar on the terminal.

    Losses are nats per token; perplexities are their exponentials, end of sentence counted.
    """

    def __init__(
        self, folder: Path, *, steps: int, done: int, console: Console | None = None
    ) -> None:
        """Open the log at step ``done`` of ``steps``; later lines of an interrupted run are cut."""
        # Slow to import, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._steps = folder / LOG, steps
        if self._path.exists():
            kept = [entry for entry in read_log(self._path) if done and entry["step"] <= done]
            write_text(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._log: TextIO = self._path.open("a", encoding="utf-8")
        self._events = SummaryWriter(
            str(folder / "tensorboard"), purge_step=done + 1 if done else 0
        )
        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console or Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=steps, completed=done, status="")
        self._losses: list[float] = []
        self._sampled = False
        self._since, self._tokens, self._busy = 0.0, 0, 0.0
        self._validation = ""

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hide the bar, close the files."""
        self._bar.stop()
        self._log.close()
        self._events.close()

    def step(
        self,
        step: int,
        loss: float,
        rate: float,
        tokens: int,
        seconds: float,
        *,
        sampled: bool = False,
    ) -> None:
        """Note one optimizer step of ``tokens`` tokens that took ``seconds``.

        A loss over ``sampled`` words is an estimate, and is noted as such.
        """
        self._losses.append(loss)
        self._sampled |= sampled
        self._tokens += tokens
        self._busy += seconds
        now = time.monotonic()
        if now - self._since < _LOG_SECONDS and step < self._steps:
            return
        mean, speed = sum(self._losses) / len(self._losses), self._tokens / self._busy
        name = "sampled_loss" if self._sampled else "loss"
        self._write(step, **{name: mean}, learning_rate=rate, tokens_per_second=speed)
        status = f"{speed:,.0f} tokens/s  {name.replace('_', ' ')} {mean:.3f}{self._validation}"
        self._bar.update(self._task, completed=step, status=status)
        self._since, self._tokens, self._busy = now, 0, 0.0
        self._sampled = False
        self._losses.clear()

    def validation(self, step: int, losses: Mapping[str, float], *, best: bool) -> None:
        """Note a validation: loss of each file, and whether their mean is the lowest yet."""
        mean = sum(losses.values()) / len(losses)
        each_loss = {f"validation/{name}": loss for name, loss in losses.items()}
        self._write(step, validation=mean, best=float(best), **each_loss)
        self._validation = f"  valid perplexity {math.exp(mean):.1f}"
        each = "  ".join(f"{name} {math.exp(loss):.2f}" for name, loss in losses.items())
        mark = " [green]best[/green]" if best else ""
        self._bar.console.print(
            f"step {step}: validation perplexity per token: {each}{mark}", soft_wrap=True
        )
        draw_losses(read_log(self._path), self._path.with_name(LOSS_PICTURE))

    def _write(self, step: int, **values: float) -> None:
        self._log.write(json.dumps({"step": step, **values}) + "\n")
        self._log.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


class NoJournal(Journal):
    """What the processes beside the main one note: nothing."""

    def __init__(self) -> None:
        """Open nothing."""

    def __enter__(self) -> Self:
        """Show nothing."""
        return self

    def __exit__(self, *of_an_error: object) -> None:
        """Close nothing."""

    def step(self, *of_a_step: object, **more: object) -> None:
        """Note nothing."""

    def validation(self, *of_a_validation: object, **more: object) -> None:
        """Note nothing."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log; a last line cut short by a kill is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries
