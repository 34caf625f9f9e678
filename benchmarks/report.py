"""What measurements are reported as: a table in Markdown, all figures in JSON, a picture."""

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from benchmarks.memory import Memory
from benchmarks.rows import Row, Side, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of Okabe & Ito (2008), told apart by colour-blind eyes.
_OURS, _THEIRS = "#0072B2", "#777777"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def write_report(rows: Sequence[Row], folder: Path, name: str, about: Mapping[str, Any]) -> str:
    """Write ``name``.md, ``name``.json and ``name``.png; return the Markdown."""
    text = markdown(rows, about)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    values = {"about": dict(about), "rows": [_plain(row) for row in rows]}
    (folder / f"{name}.json").write_text(
        json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    draw(rows, folder / f"{name}.png")
    return text


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(x.split(": ")[1] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        processor = platform.processor()
    return {"processor": processor, "python": platform.python_version()}


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return the tables: of each row a line a side, the ratio being the first side's speed."""
    lines = [
        "| what | side | unit | median | lowest … highest | speed of the first against it | also |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        for side in row.sides:
            title = f"{row.title} (`{row.name}`)" if side is row.sides[0] else ""
            lines.append(f"| {title} | {side.name} | {' | '.join(_cells(row, side))} |")
    notes = [f"- `{row.name}`: {row.note}" for row in rows if row.note]
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join([*lines, "", *notes, "", f"Measured with: {facts}.", ""])


def _cells(row: Row, side: Side) -> list[str]:
    """Return the unit, median, spread, ratio and details of a side."""
    if side.missing:
        return [row.unit, "missing", "", "", side.missing.replace("|", "/")]
    if not side.values:
        return [row.unit, "not measured", "", "", ""]
    median, lowest, highest = spread(side.values)
    ratio = ""
    first = row.first(side)
    if side is not first and first.values:
        middle, least, most = spread(row.ratios(side))
        ratio = f"{middle:.2f} ({least:.2f} … {most:.2f})"
    details = "; ".join(f"{name} {_number(side.detail(name))}" for name in side.figures[0].details)
    return [row.unit, _number(median), f"{_number(lowest)} … {_number(highest)}", ratio, details]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _plain(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "more_is_better": row.more_is_better,
        "note": row.note,
        "sides": [
            {
                "name": side.name,
                "missing": side.missing or None,
                "values": side.values,
                "details": [figure.details for figure in side.figures],
                "speed_of_first": row.ratios(side) if side.values else [],
            }
            for side in row.sides
        ],
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel a row: bars with their spread, or curves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in rows if any(side.values for side in row.sides)]
    if not rows:
        return
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(6.4 * columns, 2.8 * lines + 0.3), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, row in zip(panels, rows, strict=False):
        _draw_curves(panel, row) if row.curve else _draw_bars(panel, row)
        panel.set_title(fill(row.title, 56), fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    figure.savefig(path)


def _draw_bars(panel: "Axes", row: Row) -> None:
    sides = [side for side in row.sides if side.values]
    for place, side in enumerate(sides):
        median, lowest, highest = spread(side.values)
        error = [[median - lowest], [highest - median]]
        colour = _OURS if side.name.startswith("nextword") else _THEIRS
        panel.barh(place, median, color=colour, xerr=error, capsize=2, height=0.65)
        panel.text(highest, place, f"  {_number(median)}", va="center", fontsize=8)
    names = [side.name.replace(" (", "\n(") for side in sides]
    panel.set_yticks(range(len(sides)), names)
    panel.invert_yaxis()
    values = [value for side in sides for value in side.values]
    if max(values) > 100 * min(values):
        panel.set_xscale("log")
    panel.margins(x=0.12)
    better = "more is better" if row.more_is_better else "less is better"
    panel.set_xlabel(f"{row.unit} ({better})", fontsize=8)


def _draw_curves(panel: "Axes", row: Row) -> None:
    points: dict[str, list[tuple[float, Side]]] = {}
    for (name, x), side in zip(row.curve, row.sides, strict=True):
        if side.values:
            points.setdefault(name, []).append((x, side))
    for (name, curve), colour in zip(points.items(), _LINES, strict=False):
        xs = [x for x, _ in curve]
        medians = [statistics.median(side.values) for _, side in curve]
        panel.plot(xs, medians, "o-", color=colour, markersize=3.5, label=name)
        panel.fill_between(
            xs,
            [min(side.values) for _, side in curve],
            [max(side.values) for _, side in curve],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    panel.set_ylim(bottom=0)
    panel.set_xlabel(row.x_label, fontsize=8)
    panel.set_ylabel(row.unit, fontsize=8)
    panel.legend(frameon=False, fontsize=8)


def draw_soak(
    memory: Memory, minutes: Sequence[tuple[float, int, int, float, float, float]], path: Path
) -> None:
    """Draw the server's memory, and its latencies, over the time of a long load.

    Args:
        memory: Samples of the server's memory.
        minutes: Minute, requests, failures, p50 and p99 in ms, and memory.
        path: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True)
    above.plot([second / 60 for second in memory.seconds], memory.megabytes, color=_OURS)
    above.set_ylim(bottom=0)
    above.set_ylabel("resident memory, MB")
    times = [minute[0] for minute in minutes]
    below.plot(times, [minute[3] for minute in minutes], "o-", color=_LINES[0], label="p50")
    below.plot(times, [minute[4] for minute in minutes], "s--", color=_LINES[1], label="p99")
    below.set_yscale("log")
    below.set_ylabel("latency, ms")
    below.set_xlabel("minutes")
    below.legend(frameon=False)
    for panel in (above, below):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
