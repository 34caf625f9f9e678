"""Several checkpoints as one model: the mean of their probabilities."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from models.language_model import LanguageModel
from training.evaluate import perplexity_of, text_metrics
from training.metrics import Metric
from training.perplexity import score_documents
from training.running_text import read_running_text


def ensemble_log_probs(
    models: Sequence[LanguageModel], documents: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the log of the mean probability of each token, (N,), float64, in no special order.

    Args:
        models: Each at its calibration temperature.
        documents: Token ids (T,) of each, without BOS.

    Raises:
        ValueError: The models have different tokenizers, so that their probabilities are of
            different things.
    """
    for model in models[1:]:
        if model.tokenizer.to_json() != models[0].tokenizer.to_json():
            raise ValueError(
                f"{model.name} has another vocabulary than {models[0].name}: only models of one "
                "vocabulary can be averaged"
            )
    each = [_log_probs(model, documents) for model in models]
    mean: np.ndarray = np.logaddexp.reduce(each, axis=0) - np.log(len(models))
    return mean


def _log_probs(model: LanguageModel, documents: Iterable[np.ndarray]) -> np.ndarray:
    # The order of the tokens follows from the documents' lengths alone.
    return np.concatenate([scores.log_probs for scores in score_documents(model, documents)])


def ensemble_metrics(
    models: Sequence[LanguageModel], path: Path, *, lines_alone: bool = False
) -> dict[str, Metric]:
    """Return the perplexities of the mean of the models' probabilities on a text.

    Raises:
        ValueError: The models have different tokenizers, or the file holds no text.
    """
    text = read_running_text(path, models[0].tokenizer, lines_alone=lines_alone)
    nats = -float(ensemble_log_probs(models, text.documents).sum())
    return {
        "perplexity_per_token": Metric(
            perplexity_of(nats, len(text.tokens)),
            f"exp(nats / tokens) over the whole file, of the mean probability of {len(models)} "
            "models; every token counts, one end of sentence a line and <unk> included",
            len(text.tokens),
        ),
        **text_metrics(nats, text),
    }
