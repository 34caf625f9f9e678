"""From a checked request to its answer: programs, the same for HTTP and the command line.

Each asks the models' question and returns what the contract calls the answer, as plain values and
the models' own dataclasses, which orjson writes field by field without a copy.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from app.schemas.requests import GenerateRequest, NextWordRequest, RankRequest, ScoreRequest
from models.forward import Program
from models.generate import generate
from models.language_model import LanguageModel
from models.next_word import next_word
from models.rank import rank
from models.recall import recall
from models.score import score_all

JSON = dict[str, Any]
OnText = Callable[[int, str], None]


def next_word_answer(model: LanguageModel, query: NextWordRequest) -> Program[JSON]:
    """Answer /next-word."""
    program = next_word(
        model,
        query.text,
        top_k=query.top_k,
        prefix=query.prefix,
        candidates=query.candidates,
        num_words=query.num_words,
        temperature=query.temperature,
        words_only=query.words_only,
        exclude=frozenset(query.exclude),
    )
    found = yield from recall(model, query.history, program)
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


def score_answer(model: LanguageModel, query: ScoreRequest) -> Program[JSON]:
    """Answer /score: each text alone, side by side."""
    program = score_all(
        model,
        query.texts,
        context=query.context,
        bos=query.bos,
        eos=query.eos,
        words=query.tokens,
    )
    scores = yield from recall(model, query.history, program)
    return {"model": model.name, "results": scores}


def rank_answer(model: LanguageModel, query: RankRequest) -> Program[JSON]:
    """Answer /rank."""
    program = rank(
        model,
        [candidate.text for candidate in query.candidates],
        scores=[candidate.score or 0.0 for candidate in query.candidates],
        context=query.context,
        lm_weight=query.lm_weight,
        length_bonus=query.length_bonus,
        normalize=query.normalize,
    )
    ranked = yield from recall(model, query.history, program)
    return {"model": model.name, "results": ranked}


def generate_answer(
    model: LanguageModel, query: GenerateRequest, on_text: OnText | None = None
) -> Program[JSON]:
    """Answer /generate; ``on_text`` hears of each word as it is finished."""
    program = generate(
        model,
        query.text,
        max_tokens=query.max_tokens,
        strategy=query.strategy,
        temperature=query.temperature,
        top_k=query.top_k,
        top_p=query.top_p,
        min_p=query.min_p,
        repetition_penalty=query.repetition_penalty,
        seed=query.seed,
        num_beams=query.num_beams,
        n=query.n,
        stop=query.stop,
        on_text=on_text,
    )
    generation = yield from recall(model, query.history, program)
    return {
        "model": model.name,
        "results": [
            {
                "text": continuation.text,
                "finish_reason": continuation.finish_reason,
                "log_prob": continuation.log_prob,
                "tokens": continuation.tokens if query.log_probs else None,
            }
            for continuation in generation.results
        ],
        "usage": {
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
        },
    }


def model_answer(model: LanguageModel, *, default: bool) -> JSON:
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
