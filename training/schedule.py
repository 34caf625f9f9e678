"""The course of the step size, and of the first moment's decay with it."""

import math

from training.recipe import OptimizerSettings


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return the step size of optimizer step ``step`` (from 0) of ``steps``.

    ``constant``: linear warm-up, a constant stretch, linear decay (Hu et al. 2024, "WSD"): unlike
    a cosine, a run can be prolonged as long as the decay has not begun.

    ``1cycle``: up to the peak and down again, by half a cosine each (Smith 2018, in the form of
    Howard et al., fastai): large steps regularise, and there is no stretch without them.
    """
    if settings.schedule == "1cycle":
        rate, lowest = settings.learning_rate, settings.start_rate
        risen = _risen(step, steps, settings)
        if risen is not None:
            return rate * (lowest + (1 - lowest) * risen)
        return rate * (
            settings.final_rate + (1 - settings.final_rate) * _left(step, steps, settings)
        )
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    decay_steps = max(1.0, settings.decay_share * steps)
    left = min(1.0, max(0.0, (steps - step) / decay_steps))
    return settings.learning_rate * warm * (settings.final_rate + (1 - settings.final_rate) * left)


def first_moment_decay(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return AdamW's decay of the first moment at optimizer step ``step`` (from 0) of ``steps``.

    In a cycle it falls to ``beta1_at_peak`` while the step size rises, and rises again with its
    fall (Smith 2018, sec. 4.3); otherwise it is ``beta1`` throughout.
    """
    if settings.schedule != "1cycle" or settings.beta1_at_peak is None:
        return settings.beta1
    risen = _risen(step, steps, settings)
    at_peak = risen if risen is not None else _left(step, steps, settings)
    return settings.beta1 + (settings.beta1_at_peak - settings.beta1) * at_peak


def _risen(step: int, steps: int, settings: OptimizerSettings) -> float | None:
    """Return how much of the rise is done, 0 to 1; None behind it."""
    rise = settings.rise_share * steps
    return (1 - math.cos(math.pi * step / rise)) / 2 if step < rise else None


def _left(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Return how much of the fall is left, 1 to 0."""
    rise = settings.rise_share * steps
    done = min(1.0, (step - rise) / max(1.0, steps - rise))
    return (1 + math.cos(math.pi * done)) / 2
