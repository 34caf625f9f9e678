"""Pictures of a run: its losses, and how far its probabilities can be taken at their word.

Colours are those of Okabe & Ito (2008), told apart by colour-blind eyes; markers and dashes tell
the lines apart without colour too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from training.evaluate import Evaluation
    from training.positions import PositionLoss

_BLACK, _GREY = "#222222", "#999999"
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BLUE = "#0072B2"
_MARKERS = "osD^v"
_STYLES = {
    "token": ("o", _BLUE, "token"),
    "next_word": ("s", _COLOURS[0], "next word"),
    "uncalibrated": ("v", _GREY, "next word, temperature 1"),
}
_FEWEST = 5  # predictions in a bin; the share of fewer says nothing
_SMOOTHED_POINTS = 60  # of the training loss


def draw_losses(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses and step size of a run's log into a PNG; nothing where nothing was validated.

    Args:
        log: Entries of ``log.jsonl``.
        path: The picture; an older one is replaced at once.
    """
    train = [entry for entry in log if "loss" in entry or "sampled_loss" in entry]
    valid = [entry for entry in log if "validation" in entry]
    if not (train and valid):
        return
    figure = _figure(7.0, 4.6)
    losses, rates = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": [5, 1]})
    steps = np.array([entry["step"] for entry in train])
    loss = np.array([entry.get("loss", entry.get("sampled_loss")) for entry in train])
    label = "training" if all("loss" in entry for entry in train) else "training (words drawn)"
    losses.plot(steps, loss, color=_BLUE, alpha=0.25, linewidth=0.8)
    losses.plot(*_smooth(steps, loss), color=_BLUE, linewidth=1.8, label=label)
    names = [key.removeprefix("validation/") for key in valid[0] if key.startswith("validation/")]
    for i, name in enumerate(names):
        losses.plot(
            [entry["step"] for entry in valid],
            [entry[f"validation/{name}"] for entry in valid],
            color=_COLOURS[i % len(_COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=3.5,
            linewidth=1.4,
            label=f"validation: {name}",
        )
    best = min(valid, key=lambda entry: entry["validation"])
    losses.axvline(best["step"], color=_BLACK, linestyle=":", linewidth=1.2, label="best step")
    losses.set_ylabel("loss, nats per token")
    columns = 3 if len(names) <= 3 else 2
    losses.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=9)
    losses.set_ylim(*_loss_range(loss, valid))
    rates.plot(steps, [entry["learning_rate"] for entry in train], color=_BLACK, linewidth=1.2)
    rates.set_ylabel("step size")
    rates.set_ylim(bottom=0)
    rates.set_xlabel("optimizer steps")
    rates.xaxis.set_major_formatter("{x:,.0f}")
    _save(figure, path)


def draw_reliability(reliabilities: Mapping[str, Mapping[str, Reliability]], path: Path) -> None:
    """Draw reliability diagrams into a PNG, one panel a file.

    Args:
        reliabilities: By file; each by what was predicted: ``token``, ``next_word``,
                ``uncalibrated``: the next word at temperature 1.
        path: The picture; an older one is replaced at once.
    """
    columns = min(3, len(reliabilities))
    rows = -(-len(reliabilities) // columns)
    figure = _figure(max(4.2, 3.2 * columns), 3.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel in panels.flat[len(reliabilities) :]:
        panel.set_visible(False)
    for panel, (name, kinds) in zip(panels.flat, reliabilities.items(), strict=False):
        panel.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
        for kind, reliability in kinds.items():
            _reliability_line(panel, reliability, *_STYLES[kind])
        panel.set_title(name, fontsize=10)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.set_aspect("equal")
        panel.legend(frameon=False, loc="upper left", fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("predicted probability")
    for panel in panels[:, 0]:
        panel.set_ylabel("share that came true")
    _save(figure, path)


def _reliability_line(
    panel: "Axes", reliability: Reliability, marker: str, colour: str, title: str
) -> None:
    """Draw bins of a few predictions and more, the more the larger, with 95% intervals."""
    filled = reliability.counts >= _FEWEST
    counts = reliability.counts[filled]
    shares = reliability.hits[filled] / counts
    low, high = _wilson(shares, counts)
    places = reliability.confidence[filled] / counts
    label = f"{title}, error {reliability.error:.3f}"
    panel.errorbar(
        places,
        shares,
        yerr=np.maximum(0, [shares - low, high - shares]),
        color=colour,
        fmt="none",
        elinewidth=0.9,
    )
    sizes = 8 + 90 * np.sqrt(counts / max(1, counts.sum()))
    panel.scatter(
        places, shares, s=sizes, marker=marker, color=colour, alpha=0.8, linewidths=0, label=label
    )


def _wilson(shares: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of a share's 95% interval (Wilson 1927)."""
    z2 = 1.96**2
    middle = (shares + z2 / (2 * counts)) / (1 + z2 / counts)
    half = np.sqrt(z2 * (shares * (1 - shares) / counts + z2 / (4 * counts**2)))
    half = half / (1 + z2 / counts)
    return middle - half, middle + half


def _smooth(steps: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means of runs of neighbouring points."""
    size = max(1, len(loss) // _SMOOTHED_POINTS)
    parts = range(0, len(loss), size)
    means = [(steps[i : i + size].mean(), loss[i : i + size].mean()) for i in parts]
    x, y = np.array(means).T
    return x, y


def _loss_range(loss: np.ndarray, valid: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return a range that leaves out the first moments, in which a loss falls from log V."""
    each = [v for entry in valid for key, v in entry.items() if key.startswith("validation")]
    low = min(loss.min(), *each)
    high = max(loss[len(loss) // 20 :].max(), *each)
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _figure(width: float, height: float) -> "Figure":
    # Matplotlib takes half a second to import, and needs no display this way.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=_GREY, alpha=0.25, linewidth=0.6)
    temporary = path.with_name(path.name + ".part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def draw_comparison(
    titles: Mapping[str, str], models: Mapping[str, Sequence["Evaluation"]], path: Path
) -> None:
    """Draw a panel a metric, a group of bars a file, a bar a model, into a PNG.

    Args:
        titles: The metrics to draw, and how they are called.
        models: Each one's evaluations, on the same files in the same order.
        path: The picture; an older one is replaced at once.
    """
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    figure = _figure(4.0 * columns, 2.9 * lines + 0.4)
    panels = figure.subplots(lines, columns, squeeze=False)
    width = 0.8 / len(models)
    for panel in panels.flat[len(titles) :]:
        panel.set_visible(False)
    for panel, (metric, title) in zip(panels.flat, titles.items(), strict=False):
        for i, (name, evaluations) in enumerate(models.items()):
            found = [e.metrics.get(metric) for e in evaluations]
            values = [np.nan if m is None or m.value is None else m.value for m in found]
            bounds = [
                m.interval if m and m.interval else (v, v)
                for m, v in zip(found, values, strict=True)
            ]
            errors = np.abs(np.array(bounds).T - values)  # (2, files)
            places = np.arange(len(values)) + (i + 0.5) * width - 0.4
            colour = (_BLUE, *_COLOURS)[i % 6]
            panel.bar(places, values, width, yerr=errors, color=colour, label=name, ecolor=_BLACK)
        files = [e.data for e in next(iter(models.values()))]
        panel.set_xticks(range(len(files)), [f.replace("/", "/\n") for f in files], fontsize=8)
        panel.set_title(title, fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    _save(figure, path)


def draw_positions(models: Mapping[str, Sequence["PositionLoss"]], path: Path) -> None:
    """Draw loss against the place in a text, a curve with its 95% band a model, into a PNG."""
    figure = _figure(7.0, 4.4)
    panel = figure.subplots()
    for i, (name, found) in enumerate(models.items()):
        places = [(part.first + part.last) / 2 + 1 for part in found]
        nats, half = (np.array([getattr(part, key) for part in found]) for key in ("nats", "half"))
        colour = (_BLUE, *_COLOURS)[i % 6]
        panel.plot(places, nats, color=colour, marker=_MARKERS[i % 5], markersize=4, label=name)
        panel.fill_between(places, nats - half, nats + half, color=colour, alpha=0.15, linewidth=0)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xlabel("place in the text, tokens")
    panel.set_ylabel("loss, nats per token")
    panel.legend(frameon=False)
    _save(figure, path)
