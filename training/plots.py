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

_BLACK, _GREY = "#222222", "#999999"
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BLUE = "#0072B2"
_MARKERS = "osD^v"
_STYLES = {"token": ("o", _BLUE), "next_word": ("s", _COLOURS[0])}
_FEWEST = 5  # predictions in a bin; the share of fewer says nothing
_SMOOTHED_POINTS = 60  # of the training loss


def draw_losses(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses and step size of a run's log into a PNG; nothing where nothing was validated.

    Args:
        log: Entries of ``log.jsonl``.
        path: The picture; an older one is replaced at once.
    """
    train = [entry for entry in log if "loss" in entry]
    valid = [entry for entry in log if "validation" in entry]
    if not (train and valid):
        return
    figure = _figure(7.0, 4.6)
    losses, rates = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": [5, 1]})
    steps = np.array([entry["step"] for entry in train])
    loss = np.array([entry["loss"] for entry in train])
    losses.plot(steps, loss, color=_BLUE, alpha=0.25, linewidth=0.8)
    losses.plot(*_smooth(steps, loss), color=_BLUE, linewidth=1.8, label="training")
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
    losses.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)
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
        reliabilities: By file; each by what was predicted: ``token``, ``next_word``.
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
            _reliability_line(panel, kind, reliability, *_STYLES[kind])
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
    panel: "Axes", kind: str, reliability: Reliability, marker: str, colour: str
) -> None:
    """Draw bins of a few predictions and more, the more the larger, with 95% intervals."""
    filled = reliability.counts >= _FEWEST
    counts = reliability.counts[filled]
    shares = reliability.hits[filled] / counts
    low, high = _wilson(shares, counts)
    places = reliability.confidence[filled] / counts
    label = f"{kind.replace('_', ' ')}, error {reliability.error:.3f}"
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
