"""The temperature that calibrates a model: one number, fitted on text it was not trained on.

Guo et al. (2017, section 4.2) choose the temperature that gives all tokens of a text the least
loss. What people are shown is the most probable next word, and the two do not agree: later pieces
of a word, and the long tail, want sharper distributions than its head does. So the loss here is
that of the one claim "this token comes next" about the most probable token where a word begins:
-log p where it does, -log(1 - p) where it does not. It is least where p is the share that comes.

With b = 1 / T, logits z less the highest, and E[z] under the tempered softmax, a claim's slope is
(hit - p) / (1 - p) · E[z]: the secant method finds where the mean over the claims is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.language_model import LanguageModel
from training.perplexity import logits_of, read_features
from training.running_text import read_running_text

TOKENS = 20_000
_STEPS, _CLOSE = 16, 1e-4
_WIDEST = 1.5  # a step changes the temperature by this factor at most
_RANGE = 0.25, 4.0  # beyond it a model is not badly calibrated but hardly trained
_MOST_SURE = 1 - 1e-6  # a certainty, of which a miss would cost all


@dataclass(frozen=True)
class Fit:
    """A fitted temperature.

    Attributes:
        temperature: Divides the logits; from 0.25 to 4.
        before: Nats per token where a word begins, mean over the files, of the model as it was.
        after: The same at the fitted temperature: what the calibration of the head costs the rest.
    """

    temperature: float
    before: float
    after: float


def fit_temperature(
    model: LanguageModel, paths: Sequence[Path], *, tokens: int = TOKENS, seed: int = 0
) -> Fit:
    """Return the temperature of the least loss, each file as important as every other.

    Args:
        model: Its present temperature plays no part but in what it loses.
        paths: Texts that it was not trained on.
        tokens: To read of each file, about: whole documents, drawn at random.
        seed: Of the drawing.

    Raises:
        ValueError: A file holds no text, or is not UTF-8.
    """
    samples = [_sample(model, path, tokens, seed) for path in paths]
    last, inverse = 1.0, 0.95
    slope_before = _slope_at(model, samples, last)[0]
    for _ in range(_STEPS):
        slope, _ = _slope_at(model, samples, inverse)
        change = slope - slope_before
        wanted = inverse - slope * (inverse - last) / change if change else inverse
        last, slope_before = inverse, slope
        inverse = min(max(wanted, inverse / _WIDEST), inverse * _WIDEST)
        inverse = min(max(inverse, 1 / _RANGE[1]), 1 / _RANGE[0])
        if abs(inverse - last) < _CLOSE * last:
            break
    before = _slope_at(model, samples, 1 / model.temperature)[1]
    return Fit(1 / inverse, before, _slope_at(model, samples, inverse)[1])


Sample = list[tuple[Tensor, Tensor]]


def _sample(model: LanguageModel, path: Path, tokens: int, seed: int) -> Sample:
    """Return features (N, E) and tokens (N,) where words begin, of documents drawn at random."""
    documents = read_running_text(path, model.tokenizer).documents
    order = np.random.default_rng(seed).permutation(len(documents))
    lengths = np.cumsum([len(documents[i]) for i in order])
    count = int(np.searchsorted(lengths, tokens)) + 1
    closes = torch.ones(model.tokenizer.num_ids, dtype=torch.bool)
    closes[: model.tokenizer.vocab_size] = torch.from_numpy(model.tokenizer.is_word_end)
    closes[[model.tokenizer.eos_id, model.tokenizer.bos_id]] = True
    sample = []
    chosen = [documents[i][:tokens] for i in order[:count]]
    for features, inputs, targets in read_features(model, chosen):
        begins = closes[inputs]  # behind the end of a word, a line, or nothing
        sample.append((features[begins.to(features.device)], targets[begins]))
    return sample


@torch.inference_mode()
def _slope_at(
    model: LanguageModel, samples: Sequence[Sample], inverse: float
) -> tuple[float, float]:
    """Return the slope of the loss by the inverse temperature, and the nats per token, at it."""
    total = np.zeros(2)
    for sample in samples:
        sums, count = torch.zeros(2, dtype=torch.float64), 0
        for features, targets in sample:
            for logits, answers in logits_of(model.network, features, targets):
                count += len(answers)
                highest, top = logits.max(dim=-1, keepdim=True)
                logits -= highest
                answer = logits.gather(1, answers[:, None])[:, 0] * inverse
                weights = (logits * inverse).exp_()  # (C, V); the top's is 1
                mass = weights.sum(dim=-1)
                mean = weights.mul_(logits).sum(dim=-1) / mass
                p = (1 / mass).clamp(max=_MOST_SURE)
                slope = ((top[:, 0] == answers).float() - p) / (1 - p) * mean
                parts = slope, mass.log() - answer
                sums += torch.stack([part.double().sum().cpu() for part in parts])
        total += sums.numpy() / max(1, count)
    slope, nats = (total / len(samples)).tolist()
    return slope, nats
