"""Order alternatives of one sentence: hypotheses of speech, OCR or translation, word orders."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import InvalidRequestError
from models.forward import Program
from models.language_model import LanguageModel
from models.score import SentenceScore, score_all


@dataclass(frozen=True)
class RankedText:
    """An alternative and its place, given by the order of the list.

    Attributes:
        index: Place in the list that was given, from 0.
        text: The alternative.
        log_prob: Natural log-probability of the sentence, end of sentence counted.
        total: What the list is ordered by: ``score + lm_weight · log_prob / length +
            length_bonus · words``, the division only where asked for.
        probability: Softmax of ``total`` over the list.
    """

    index: int
    text: str
    log_prob: float
    total: float
    probability: float


def rank(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    context: str = "",
    lm_weight: float = 1.0,
    length_bonus: float = 0.0,
    normalize: Literal["none", "tokens", "characters"] = "none",
) -> Program[list[RankedText]]:
    """Score the alternatives and order them, best first; equals keep their order.

    Args:
        model: Whose probabilities are asked for.
        texts: The alternatives, at least one.
        scores: What another model says of each, in the units of natural log-probabilities.
        context: Read before each, not scored.
        lm_weight: Factor of the log-probability.
        length_bonus: Added for each word.
        normalize: Divide the log-probability by scored tokens or characters (at least 1).

    Raises:
        InvalidRequestError: No texts, not one number as score for each, or factors so large that
            totals are no numbers.
    """
    if not texts:
        raise InvalidRequestError("candidates", "must hold at least one text")
    if scores is not None and len(scores) != len(texts):
        raise InvalidRequestError("scores", "must hold one score for each text")
    if not all(map(math.isfinite, scores or ())):
        raise InvalidRequestError("scores", "must be finite numbers")
    sentences = yield from score_all(model, texts, context=context)
    totals = []
    for i, sentence in enumerate(sentences):
        words = len(model.tokenizer.encode(sentence.text).words)
        given = scores[i] if scores is not None else 0.0
        log_prob = _log_prob(sentence) / _length(sentence, normalize)
        totals.append(given + lm_weight * log_prob + length_bonus * words)
    if not all(map(math.isfinite, totals)):
        raise InvalidRequestError("lm_weight", "with these scores is beyond what numbers hold")
    highest = max(totals)
    weights = [math.exp(total - highest) for total in totals]
    order = sorted(range(len(texts)), key=lambda i: -totals[i])
    return [
        RankedText(i, texts[i], _log_prob(sentences[i]), totals[i], weights[i] / sum(weights))
        for i in order
    ]


def _log_prob(sentence: SentenceScore) -> float:
    assert sentence.log_prob is not None  # the end of sentence is always scored
    return sentence.log_prob


def _length(sentence: SentenceScore, normalize: str) -> int:
    lengths = {"none": 1, "tokens": sentence.scored_tokens, "characters": len(sentence.text)}
    return max(1, lengths[normalize])
