"""Evaluations put where people look: into the checkpoint, its card and its pictures."""

from collections.abc import Sequence
from pathlib import Path

from models.checkpoint import load_checkpoint, update_config
from training.calibration import Reliability
from training.card import LOSS_PICTURE, RELIABILITY_PICTURE, write_card
from training.evaluate import Evaluation
from training.journal import LOG, read_log
from training.plots import draw_losses, draw_reliability


def write_report(
    folder: Path, evaluations: Sequence[Evaluation], *, run: Path | None = None
) -> None:
    """Store metrics in a checkpoint and rewrite its card; its weights are not touched.

    Args:
        folder: The checkpoint.
        evaluations: On each file; they replace all that were stored before. None keeps those.
        run: The run's folder, whose log is drawn; without one an older picture stays.

    Raises:
        CheckpointError: There is no checkpoint in the folder.
    """
    model = load_checkpoint(folder)
    if evaluations:
        stored = []
        for evaluation in evaluations:
            values = evaluation.to_values()
            del values["reliability"]  # the picture shows it
            stored.append(values)
        update_config(folder, details={**model.details, "metrics": stored})
        picture_reliability(evaluations, folder / RELIABILITY_PICTURE)
        model = load_checkpoint(folder)
    if run is not None and (run / LOG).exists():
        draw_losses(read_log(run / LOG), folder / LOSS_PICTURE)
    write_card(folder, model)


def picture_reliability(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw the reliability of tokens and, where sampled, next words: at temperature 1 too."""
    kinds: dict[str, dict[str, Reliability]] = {}
    for evaluation in evaluations:
        kinds[evaluation.data] = {"token": evaluation.token}
        if evaluation.next_word is not None:
            kinds[evaluation.data]["next_word"] = evaluation.next_word
        if evaluation.uncalibrated is not None:
            kinds[evaluation.data]["uncalibrated"] = evaluation.uncalibrated
    draw_reliability(kinds, path)
