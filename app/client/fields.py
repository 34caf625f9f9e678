"""What a question may say besides its text: the fields of `app.schemas.requests`, for keywords."""

from typing import Literal, TypedDict


class _Any(TypedDict, total=False):
    model: str | None


class NextWordFields(_Any, total=False):
    """Of /next-word."""

    history: str
    top_k: int | None
    prefix: str
    candidates: list[str]
    num_words: int
    temperature: float
    words_only: bool
    exclude: list[str]


class ScoreFields(_Any, total=False):
    """Of /score."""

    history: str
    context: str
    bos: bool
    eos: bool
    tokens: bool


class RankFields(_Any, total=False):
    """Of /rank."""

    history: str
    context: str
    lm_weight: float
    length_bonus: float
    normalize: Literal["none", "tokens", "characters"]


class GenerateFields(_Any, total=False):
    """Of /generate."""

    history: str
    max_tokens: int
    strategy: Literal["greedy", "sample", "beam"]
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int | None
    num_beams: int
    n: int
    stop: list[str]
    log_probs: bool
