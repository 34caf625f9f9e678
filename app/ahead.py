"""What somebody who types will ask next: read while nothing else is to be done."""

from collections import defaultdict
from collections.abc import Sequence

from app.schemas.requests import NextWordRequest
from models.next_word import Prediction

_TOO_RARE = 0.02  # probability below which it is not worth the work


def likely_next(
    query: NextWordRequest, predictions: Sequence[Prediction], most: int
) -> list[NextWordRequest]:
    """Return the likeliest next questions, ``most`` of them, the likeliest first.

    That a suggested word is typed on, is finished, or, of the first one, is taken.

    Args:
        query: What was asked.
        predictions: What was answered.
        most: How many questions to return at most.
    """
    typed: dict[tuple[str, str], float] = defaultdict(float)
    for place, prediction in enumerate(predictions):
        word, length = prediction.word, len(query.prefix) + 1
        if word != query.prefix:
            typed[query.text, word[:length]] += prediction.probability
        if word == query.prefix or place == 0:
            space = " " if query.text and not query.text[-1].isspace() else ""
            typed[query.text + space + word, ""] += prediction.probability
    likely = sorted(typed, key=typed.__getitem__, reverse=True)[:most]
    return [
        query.model_copy(update={"text": text, "prefix": prefix})
        for text, prefix in likely
        if typed[text, prefix] >= _TOO_RARE
    ]
