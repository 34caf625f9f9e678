"""From a line to its row, wherever the line comes from and whoever scores it."""

from collections.abc import Callable
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from app.errors import BodyTooLargeError, MalformedBodyError, invalid, problem
from app.schemas.bulk import BulkScoreRequest, LineId
from models.forward import Program
from models.language_model import LanguageModel
from models.score import SentenceScore, score

_valid_id = TypeAdapter(LineId).validator.validate_python

Check = Callable[[Any], BulkScoreRequest]


class Line:
    """One line of the input.

    Attributes:
        number: From 1.
        id: What the line calls itself; None where it does not, or cannot be read.
    """

    __slots__ = ("_raw", "id", "number")

    def __init__(self, number: int, raw: bytes) -> None:
        """Look into nothing yet."""
        self.number, self._raw = number, raw
        self.id: str | int | None = None

    def read(self, check: Check, most_bytes: int) -> BulkScoreRequest:
        """Return what the line asks.

        Raises:
            BodyTooLargeError: It has more than ``most_bytes`` bytes.
            MalformedBodyError: It is not JSON in valid Unicode.
            RequestValidationError: It is not what ``check`` takes.
        """
        raw, self._raw = self._raw, b""
        if len(raw) > most_bytes:
            raise BodyTooLargeError(f"A line must have at most {most_bytes} bytes.")
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise MalformedBodyError(
                f"The line is not JSON in valid Unicode: {error.msg} at character {error.pos}."
            ) from None
        if isinstance(value, dict):
            try:
                self.id = _valid_id(value.get("id"), strict=True)
            except ValidationError:
                self.id = None
        try:
            return check(value)
        except ValidationError as error:
            raise invalid(error, "line") from None

    def scored(self, model: str, result: SentenceScore) -> bytes:
        """Return the row of a score, ended."""
        return _row(
            {
                "id": self.id,
                "line": self.number,
                "model": model,
                "log_prob": result.log_prob,
                "perplexity": result.perplexity,
                "mean_log_prob": result.mean_log_prob,
                "bits_per_character": result.bits_per_character,
                "scored_tokens": result.scored_tokens,
                "oov_count": result.oov_count,
                "eos_log_prob": result.eos_log_prob,
                "words": result.words,
            }
        )

    def failed(self, error: Exception, request_id: str) -> bytes:
        """Return the row of an error, ended."""
        return _row({"id": self.id, "line": self.number, "error": problem(error, request_id)})


def score_line(model: LanguageModel, query: BulkScoreRequest) -> Program[SentenceScore]:
    """Score what a line asks."""
    return score(
        model,
        query.text,
        context=query.context,
        bos=query.bos,
        eos=query.eos,
        words=query.tokens,
    )


def _row(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
