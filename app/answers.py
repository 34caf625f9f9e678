"""What the models' results look like as JSON, for HTTP and the command line alike.

Dataclasses stay as they are: orjson writes them, field by field, without a copy.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from models.generate import Generation
from models.language_model import LanguageModel
from models.next_word import NextWords
from models.rank import RankedText
from models.score import SentenceScore


def next_word_answer(model: LanguageModel, found: NextWords) -> dict[str, Any]:
    """Return the answer of /next-word."""
    return {
        "model": model.name,
        "predictions": found.predictions,
        "candidates": found.candidates,
        "covered_mass": found.covered_mass,
        "oov_mass": found.oov_mass,
        "entropy_bits": found.entropy_bits,
        "context": {"tokens": found.context_tokens, "truncated": found.truncated},
        "proven": found.proven,
    }


def score_answer(model: LanguageModel, scores: Sequence[SentenceScore]) -> dict[str, Any]:
    """Return the answer of /score."""
    return {"model": model.name, "results": scores}


def rank_answer(model: LanguageModel, ranked: Sequence[RankedText]) -> dict[str, Any]:
    """Return the answer of /rank."""
    return {"model": model.name, "results": ranked}


def generate_answer(
    model: LanguageModel, generation: Generation, *, tokens: bool
) -> dict[str, Any]:
    """Return the answer of /generate, with every token if ``tokens``."""
    return {
        "model": model.name,
        "results": [
            {
                "text": continuation.text,
                "finish_reason": continuation.finish_reason,
                "log_prob": continuation.log_prob,
                "tokens": continuation.tokens if tokens else None,
            }
            for continuation in generation.results
        ],
        "usage": {
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
        },
    }


def model_answer(model: LanguageModel, *, default: bool) -> dict[str, Any]:
    """Return what GET /models tells about one model."""
    config = model.network.config
    return {
        "name": model.name,
        "default": default,
        "architecture": config.kind,
        "parameters": model.num_parameters,
        "vocab_size": model.tokenizer.vocab_size,
        "tokenizer": model.tokenizer.kind,
        "context_length": model.network.context_length,
        "network": asdict(config),
        "temperature": model.temperature,
        "corpus": model.details.get("corpus"),
        "metrics": model.details.get("metrics"),
        "checksum": model.checksum,
    }
