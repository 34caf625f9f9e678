"""OpenAI's completions: what may be asked, and what is answered."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from app.schemas.bounds import Limit
from app.schemas.requests import (
    MANY,
    ONE,
    MinP,
    OneOrManyTexts,
    RepetitionPenalty,
    Request,
    Stop,
    TokenId,
    one_or_many,
)

TokenIds = Annotated[list[TokenId], MinLen(1), Limit(MaxLen, "max_token_ids")]
ManyTokenIds = Annotated[list[TokenIds], MinLen(1), Limit(MaxLen, "max_texts")]

_MOST_LOGPROBS = 20
_MOST_BIASES = 300


def _inner(value: Any) -> str:
    """Return which kind of list a prompt is, by its first element."""
    first = value[0] if isinstance(value, list) and value else None
    return MANY if isinstance(first, list) else ONE


def _outer(value: Any) -> str:
    """Return whether a prompt is text, or a list of texts, rather than token ids."""
    first = value[0] if isinstance(value, list) and value else value
    return ONE if isinstance(first, str) else MANY


AnyTokenIds = Annotated[
    Annotated[TokenIds, Tag(ONE)] | Annotated[ManyTokenIds, Tag(MANY)], Discriminator(_inner)
]
AnyPrompt = Annotated[
    Annotated[OneOrManyTexts, Tag(ONE)] | Annotated[AnyTokenIds, Tag(MANY)], Discriminator(_outer)
]
Stops = Annotated[list[Stop], Limit(MaxLen, "max_stops")]
OneOrManyStops = Annotated[
    Annotated[Stop, Tag(ONE)] | Annotated[Stops, Tag(MANY)], Discriminator(one_or_many)
]


def _tell_of_nulls(schema: dict[str, Any]) -> None:
    """Let the published schema say what `NullsLeftOut` does: all but the prompt may be null."""
    about = ("title", "description", "default", "examples")
    for name, field in schema["properties"].items():
        if name != "prompt" and {"type": "null"} not in field.get("anyOf", ()):
            bare = {key: value for key, value in field.items() if key not in about}
            told = {key: value for key, value in field.items() if key in about}
            schema["properties"][name] = {"anyOf": [bare, {"type": "null"}], **told}


class NullsLeftOut(BaseModel):
    """A field that is null is as if left out."""

    model_config = ConfigDict(json_schema_extra=_tell_of_nulls)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: field for name, field in value.items() if field is not None}


class StreamOptions(NullsLeftOut):
    """How to stream."""

    model_config = ConfigDict(strict=True, frozen=True)

    include_usage: bool = Field(
        False, description="Send a last chunk with the usage of the whole.", examples=[True]
    )


class CompletionRequest(NullsLeftOut, Request):
    """How does this prompt go on, and how likely is each of its tokens?

    A field that is null is as if left out; one that is not known here is passed over.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    prompt: AnyPrompt = Field(
        description="A text, several, or token ids, once or several times. Nothing is read before "
        "token ids; a text begins a sentence. In a text, the name of a special token, such as "
        "`</s>`, is that token, and a line break ends a sentence.",
        examples=["The weather today"],
    )
    max_tokens: Annotated[int, Ge(0), Limit(Le, "max_tokens")] = Field(
        16, description="Most tokens of each completion.", examples=[16]
    )
    n: Annotated[int, Ge(1), Limit(Le, "max_continuations")] = Field(
        1, description="Completions of each prompt.", examples=[1]
    )
    best_of: Annotated[int, Ge(1), Limit(Le, "max_continuations")] | None = Field(
        None,
        description="Generate so many, and return the `n` with the highest log-probability per "
        "token. Not with `stream`.",
        examples=[None],
    )
    echo: bool = Field(False, description="Return the prompt too.", examples=[False])
    logprobs: Annotated[int, Ge(0), Le(_MOST_LOGPROBS)] | None = Field(
        None,
        description="Return each token's natural log-probability, and those of so many most "
        "probable tokens in its place; with `echo` those of the prompt too.",
        examples=[1],
    )
    stop: OneOrManyStops = Field(
        [], description="Stop before the first of these strings.", examples=[["."]]
    )
    seed: int | None = Field(
        None,
        ge=-(2**63),
        le=2**63 - 1,
        description="The same seed and request give the same completion.",
        examples=[7],
    )
    temperature: float = Field(
        1.0, ge=0, le=100, description="0 takes the most likely token.", examples=[0.8]
    )
    top_p: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Sample from the fewest tokens whose probabilities reach this.",
        examples=[0.95],
    )
    top_k: Annotated[int, Ge(-1), Limit(Le, "max_top_k")] = Field(
        -1, description="Sample from so many most likely tokens; below 1 from all.", examples=[50]
    )
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    frequency_penalty: float = Field(
        0.0,
        ge=-2,
        le=2,
        description="Taken from a token's log-probability each time it was generated.",
        examples=[0.0],
    )
    presence_penalty: float = Field(
        0.0,
        ge=-2,
        le=2,
        description="Taken from a token's log-probability once it was generated.",
        examples=[0.0],
    )
    logit_bias: Annotated[
        dict[Annotated[str, MaxLen(10)], Annotated[float, Ge(-100), Le(100)]],
        MaxLen(_MOST_BIASES),
    ] = Field(
        {}, description="Added to the log-probability of these token ids.", examples=[{"300": -100}]
    )
    suffix: Annotated[str, MaxLen(0)] = Field(
        "", description="Not supported: must be empty.", examples=[""]
    )
    stream: bool = Field(
        False, description="Answer with server-sent events, word by word.", examples=[False]
    )
    stream_options: StreamOptions = Field(
        StreamOptions(), description="For `stream`.", examples=[{"include_usage": True}]
    )

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, as a list."""
        alone = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return [self.prompt] if alone else self.prompt  # type: ignore[return-value]

    @property
    def stops(self) -> list[str]:
        """The strings that end a completion, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop


class Logprobs(BaseModel):
    """Log-probabilities, one entry for each token of the echoed prompt and of the completion."""

    tokens: list[str] = Field(description="What each adds to the text.")
    token_logprobs: list[float | None] = Field(
        description="Natural logarithms; null for the first token of the prompt, and only there."
    )
    top_logprobs: list[dict[str, float] | None] = Field(
        description="The token itself and the most probable ones. Where two read the same, such as "
        "a word and the beginning of a longer one, the second is named by its id: `token_id:300`."
    )
    text_offset: list[int] = Field(description="Where each begins in the text.")


class CompletionChoice(BaseModel):
    """One completion."""

    index: int = Field(description="Number of the prompt times `n`, plus that of the completion.")
    text: str = Field(description="The completion, behind the prompt if that is echoed.")
    logprobs: Logprobs | None = Field(description="Where they were asked for.")
    finish_reason: Literal["stop", "length"] | None = Field(
        description="`stop` at an end of sentence or a stop string, `length` at the most tokens; "
        "null in a stream while it goes on."
    )


class CompletionUsage(BaseModel):
    """What was counted."""

    prompt_tokens: int = Field(description="Tokens of all prompts.")
    completion_tokens: int = Field(description="Tokens generated, ends of sentences included.")
    total_tokens: int = Field(description="Both.")


class CompletionResponse(BaseModel):
    """Completions; in a stream the same for what was added."""

    id: str = Field(description="Of this answer.")
    object: Literal["text_completion"] = Field(description="What this is.")
    created: int = Field(description="When, seconds since 1970.")
    model: str = Field(description="Name of the model that answered.")
    system_fingerprint: str = Field(description="Of the weights: with `seed`, what repeats.")
    choices: list[CompletionChoice] = Field(description="Of each prompt, in order.")
    usage: CompletionUsage | None = Field(description="Null in a stream but at its end.")


class OpenAIModel(BaseModel):
    """A model that can be asked."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(description="What this is.")
    created: int = Field(description="When the service began, seconds since 1970.")
    owned_by: str = Field(description="Always `nextword`.")
    max_model_len: int | None = Field(
        description="How many tokens back it reaches; null where it has no fixed reach."
    )


class OpenAIModels(BaseModel):
    """All models."""

    object: Literal["list"] = Field(description="What this is.")
    data: list[OpenAIModel] = Field(description="The models.")


class OpenAIFault(BaseModel):
    """What went wrong."""

    message: str = Field(description="In words; never quotes what was sent.")
    type: str = Field(description="What kind of error.")
    param: str | None = Field(description="Which field, if that is why.")
    code: str | None = Field(description="`model_not_found`, or null.")


class OpenAIError(BaseModel):
    """Why there is no answer, as OpenAI's clients expect it."""

    error: OpenAIFault = Field(description="What went wrong.")
