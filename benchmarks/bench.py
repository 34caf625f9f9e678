"""Sides of the measurements of inference, each at the setting that is fastest for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Figure, Side, fastest
from benchmarks.worker import Crew, MissingError

_TOLD = ("peers.ctranslate", "peers.onnx_lstm")  # take their threads from a command


@dataclass(frozen=True)
class Bench:
    """What the rows are measured with.

    Attributes:
        crew: The workers.
        threads: Most threads of a side.
        steps: Of one measurement.
        calls: Of one measurement of scoring.
        models: Folder for the peers' models.
    """

    crew: Crew
    threads: int
    steps: int
    calls: int
    models: Path

    def side(
        self,
        name: str,
        module: str,
        do: str,
        settings: Sequence[dict[str, int]] | None = None,
        *,
        scale: float = 1.0,
        more_is_better: bool = False,
        **arguments: Any,
    ) -> Side:
        """Return a side at the setting that is fastest for it.

        Args:
            name: As the table shows it.
            module: Of this package, which a worker runs.
            do: The worker's command.
            settings: Numbers of threads and, where it has them, workers to choose from.
            scale: What the worker's answer is multiplied by.
            more_is_better: Whether the answer is a rate.
            arguments: Of the command.
        """
        counts = sorted({1, self.threads})
        choices = settings or [{"threads": count} for count in counts]
        candidates: list[Side] = []
        try:
            for choice in choices:
                # A side that takes its threads from its environment is not told of them.
                told = choice if module in _TOLD else {}
                worker = self.crew.get(module, threads=choice["threads"])
                label = ", ".join(_setting(what, count) for what, count in choice.items())
                measure = _measure(worker.call, do, scale, {**arguments, **told})
                if not candidates:
                    measure()  # makes models and warms up; a setting's own first turn comes later
                candidates.append(Side(f"{name} ({label})", measure, setting=choice))
            return fastest(candidates, more_is_better=more_is_better)
        except MissingError as error:
            return Side(name, None, missing=str(error))

    def ours(self, name: str, do: str, **arguments: Any) -> list[Side]:
        """Return our sides, the fastest backend that is there first."""
        native = self.side(f"nextword, native{name}", "ours", do, backend="native", **arguments)
        exact = self.side(
            f"nextword, torch float32{name}", "ours", do, backend="torch", **arguments
        )
        if native.missing:
            return [exact, native]
        kind = arguments.get("kind", "transformer")
        worker = self.crew.get("ours", threads=1)
        multiplied = worker.call("precision", kind=kind, backend="native")
        native.name = native.name.replace("native", f"native {multiplied}", 1)
        return [native, exact]

    def ctranslate(self, do: str, **arguments: Any) -> Side:
        """Return CTranslate2; it can share a batch out among workers, and cut it up.

        Its workers and threads are chosen first, then how many texts it takes at once: that alone
        makes it up to four times as fast.
        """
        task = {"folder": str(self.models / "gpt2"), **arguments}
        name, module = "CTranslate2 int8", "peers.ctranslate"
        one = arguments.get("batch") == 1
        spent = [(1, count) for count in sorted({1, self.threads})]
        if self.threads > 1 and not one:
            spent.append((self.threads, 1))
        settings = [{"workers": w, "threads": t, "at_once": 0 if one else 8} for w, t in spent]
        side = self.side(name, module, do, settings, **task)
        if one or side.missing:
            return side
        settings = [{**side.setting, "at_once": count} for count in (4, 8, 16, 0)]
        return self.side(name, module, do, settings, **task)


def _setting(what: str, count: int) -> str:
    if what == "at_once":
        return f"{count or 'all'} texts at once"
    return f"{count} {what if count > 1 else what.removesuffix('s')}"


def _measure(
    call: Callable[..., Any], do: str, scale: float, arguments: dict[str, Any]
) -> Callable[[], Figure]:
    return lambda: Figure(call(do, **arguments) * scale)
