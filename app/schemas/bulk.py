"""A line of `POST /score/bulk`, and the line that answers it."""

from typing import Annotated

from annotated_types import Ge, Le, MaxLen
from pydantic import BaseModel, Discriminator, Field, Tag

from app.schemas.requests import MANY, ONE, ScoringRequest, Text
from app.schemas.responses import Problem, WordScore

_Name = Annotated[str, MaxLen(255)]
_Number = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]
# Tagged with names that no fault reports.
LineId = (
    Annotated[
        Annotated[_Name, Tag(ONE)] | Annotated[_Number, Tag(MANY)],
        Discriminator(lambda value: MANY if isinstance(value, int | float) else ONE),
    ]
    | None
)


class BulkScoreRequest(ScoringRequest):
    """How likely is this text? One line of many."""

    id: LineId = Field(None, description="Comes back with the answer.", examples=["line-1"])
    text: Text = Field(description="The text.", examples=["I study machine learning"])


class BulkScore(BaseModel):
    """A scored line."""

    id: str | int | None = Field(description="The line's own.")
    line: int = Field(description="Which line of the body this answers, from 1.")
    model: str = Field(description="Name of the model that answered.")
    log_prob: float | None = Field(description="Of the whole text; null: nothing was scored.")
    perplexity: float | None = Field(
        description="Per scored token, of which the end of the sentence is one if `eos` is true."
    )
    mean_log_prob: float | None = Field(description="`log_prob` over `scored_tokens`.")
    bits_per_character: float | None = Field(description="Surprisal over characters of the text.")
    scored_tokens: int = Field(description="How many tokens `log_prob` counts.")
    oov_count: int = Field(description="Words outside the vocabulary.")
    eos_log_prob: float | None = Field(
        description="Share of the end of the sentence in `log_prob`; null if `eos` is false."
    )
    words: list[WordScore] | None = Field(description="Each word; null unless `tokens` is true.")


class BulkError(BaseModel):
    """A line that could not be scored."""

    id: str | int | None = Field(description="The line's own; null where it could not be read.")
    line: int = Field(description="Which line of the body this answers, from 1.")
    error: Problem = Field(description="Why; 429 and 503 are worth another try, others are not.")
