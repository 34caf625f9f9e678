"""What may be asked. Every number is bounded, nothing is coerced, unknown fields are refused."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from app.schemas.bounds import Limit

ModelName = Annotated[str, MaxLen(255)]
Text = Annotated[str, Limit(MaxLen, "max_text_characters")]
Word = Annotated[str, Limit(MaxLen, "max_word_characters")]
Words = Annotated[list[Word], Limit(MaxLen, "max_candidates")]
TopK = Annotated[int, Ge(1), Limit(Le, "max_top_k")]
TokenId = Annotated[int, Ge(0), Le(2**31 - 1)]
Stop = Annotated[str, MinLen(1), Limit(MaxLen, "max_word_characters")]
MinP = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Sample from tokens at least this share as likely as the likeliest.",
        examples=[0.0],
    ),
]
RepetitionPenalty = Annotated[
    float,
    Field(
        ge=0.1,
        le=10,
        description="Above 1 makes tokens that have occurred less likely.",
        examples=[1.0],
    ),
]

# An empty list; written as the default itself it would be copied, deeply, for each request.
_EMPTY: dict[str, Any] = {"default_factory": list, "json_schema_extra": {"default": []}}
_SMALL_TEXT = 2048  # characters
_SMALL_LIST = 100  # words

# A union that knows which side it is on reports the faults of that side alone.
ONE, MANY = "<one>", "<many>"


def one_or_many(value: Any) -> str:
    """Return which side of a union of one thing and a list of them a value is on."""
    return MANY if isinstance(value, list) else ONE


Texts = Annotated[list[Text], MinLen(1), Limit(MaxLen, "max_texts")]
OneOrManyTexts = Annotated[
    Annotated[Text, Tag(ONE)] | Annotated[Texts, Tag(MANY)], Discriminator(one_or_many)
]


class Request(BaseModel):
    """What all requests share."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    model: ModelName | None = Field(
        None, description="Name of the model; the default model if left out.", examples=[None]
    )


class TextRequest(Request):
    """What the questions about text share."""

    history: Text = Field(
        "",
        description="What the user wrote before: the answer goes by its words, names and phrases "
        "as far as the text turns out to. A line break ends a sentence. Kept in memory for a "
        "while, so that the next request is answered sooner, and nowhere else.",
        examples=["I am going to Lisbon in May.\nIs there a hostel near the river?"],
    )


class NextWordRequest(TextRequest):
    """Which words can come next, and how likely is each?"""

    text: Text = Field(
        description="What has been written so far; empty is the start of a sentence.",
        examples=["I would like to book a"],
    )
    top_k: TopK | None = Field(
        10,
        description="How many words to predict; null is the whole vocabulary, "
        "where the model's tokenizer is word-level.",
        examples=[5],
    )
    prefix: Word = Field(
        "", description="The next word has been typed so far as this.", examples=["ho"]
    )
    candidates: Words = Field(
        **_EMPTY, description="Words to report in any case.", examples=[["hotel", "room"]]
    )
    num_words: int = Field(1, ge=1, le=5, description="Words of each prediction.", examples=[1])
    temperature: float = Field(
        1.0,
        ge=0.01,
        le=100,
        description="Above 1 flattens, below 1 sharpens the distribution; 1 is the model's own.",
        examples=[1.0],
    )
    words_only: bool = Field(True, description="Predict words and no punctuation.", examples=[True])
    exclude: Words = Field(**_EMPTY, description="Words never to predict.", examples=[["flight"]])

    @property
    def items(self) -> int:
        """How much room it takes: phrases are searched for among many more beginnings."""
        return max(1 if self.num_words == 1 else 64, len(self.candidates))

    @property
    def small(self) -> bool:
        """Whether it is like a keystroke: little text, a short list, one word."""
        return (
            self.num_words == 1
            and self.words_only
            and not self.history
            and len(self.text) <= _SMALL_TEXT
            and (self.top_k or _SMALL_LIST + 1) <= _SMALL_LIST
            and len(self.candidates) + len(self.exclude) <= _SMALL_LIST // 10
        )


class ScoringRequest(Request):
    """What the questions about a whole text's likelihood share."""

    context: Text = Field(
        "", description="Stands before the text; given, not scored.", examples=[""]
    )
    bos: bool = Field(
        True,
        description="The text begins a sentence. If not, and without context, its first word is "
        "not scored.",
        examples=[True],
    )
    eos: bool = Field(
        True, description="Score also that the sentence ends behind the text.", examples=[True]
    )
    tokens: bool = Field(False, description="Report each word.", examples=[True])


class ScoreRequest(TextRequest, ScoringRequest):
    """How likely is each of these texts?"""

    text: OneOrManyTexts = Field(
        description="The text, or texts that are each scored alone.",
        examples=[["I study machine learning", "Machine I learning study"]],
    )

    @property
    def items(self) -> int:
        """How much room it takes: words' ranks and a history need whole distributions."""
        return len(self.texts) * (4 if self.tokens or self.history else 1)

    @property
    def texts(self) -> list[str]:
        """The text or texts, as a list."""
        return [self.text] if isinstance(self.text, str) else self.text


class RankCandidate(BaseModel):
    """One alternative."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    text: Text = Field(description="The alternative.", examples=["My computer is very slow"])
    score: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="What the system that proposed it gives it, in natural-log units; "
        "nothing if left out.",
        examples=[-2.5],
    )


class RankRequest(TextRequest):
    """Which of these alternatives is the best?"""

    candidates: Annotated[list[RankCandidate], MinLen(1), Limit(MaxLen, "max_texts")] = Field(
        description="The alternatives.",
        examples=[[{"text": "My computer is very slow"}, {"text": "My computer is very shirt"}]],
    )
    context: Text = Field(
        "", description="Stands before each alternative; given, not scored.", examples=[""]
    )
    lm_weight: float = Field(
        1.0, ge=-1e3, le=1e3, description="Multiplies the log-probability.", examples=[1.0]
    )
    length_bonus: float = Field(
        0.0, ge=-1e3, le=1e3, description="Added for each word, natural-log units.", examples=[0.0]
    )
    normalize: Literal["none", "tokens", "characters"] = Field(
        "none", description="Divide the log-probability by this length.", examples=["none"]
    )

    @property
    def items(self) -> int:
        """How much room it takes: a history needs whole distributions."""
        return len(self.candidates) * (4 if self.history else 1)


class GenerateRequest(TextRequest):
    """How does this text go on?"""

    text: Text = Field(
        description="What to continue; empty starts a sentence.", examples=["The weather today"]
    )
    max_tokens: Annotated[int, Ge(1), Limit(Le, "max_tokens")] = Field(
        32, description="Most tokens of each continuation.", examples=[16]
    )
    strategy: Literal["greedy", "sample", "beam"] = Field(
        "greedy", description="How each token is chosen.", examples=["sample"]
    )
    temperature: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Of sampling; 0 takes the most likely token.",
        examples=[0.8],
    )
    top_k: TopK | None = Field(
        None, description="Sample from this many most likely tokens only.", examples=[50]
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Sample from the fewest tokens whose probabilities reach this.",
        examples=[0.95],
    )
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    seed: int | None = Field(
        None,
        ge=0,
        le=2**63 - 1,
        description="The same seed and request give the same text; null is a new one each time.",
        examples=[7],
    )
    num_beams: Annotated[int, Ge(1), Limit(Le, "max_beams")] = Field(
        4, description="Beams of strategy `beam`.", examples=[4]
    )
    n: Annotated[int, Ge(1), Limit(Le, "max_continuations")] = Field(
        1, description="How many continuations.", examples=[1]
    )
    stop: Annotated[list[Stop], Limit(MaxLen, "max_stops")] = Field(
        **_EMPTY, description="Stop before the first of these strings.", examples=[["."]]
    )
    stream: bool = Field(
        False,
        description="Answer with server-sent events: `text` for each word, then `done` with the "
        "whole answer. Not with strategy `beam`.",
        examples=[False],
    )
    log_probs: bool = Field(False, description="Report each token.", examples=[False])

    @property
    def sequences(self) -> int:
        """How many sequences are worked on side by side."""
        return self.num_beams if self.strategy == "beam" else self.n


class TokenizeRequest(Request):
    """Which tokens does the model read this text as? Give either `text` or `prompt`."""

    text: Text | None = Field(
        None, description="Any text, read as nothing but text.", examples=["Hello, world!"]
    )
    prompt: Text | None = Field(
        None,
        description="A text in which a special token's name, such as `</s>`, is that token.",
        examples=[None],
    )
    add_special_tokens: bool = Field(
        True, description="Begin with the token that starts a sentence.", examples=[True]
    )


class DetokenizeRequest(Request):
    """Which text do these tokens stand for?"""

    tokens: Annotated[list[TokenId], Limit(MaxLen, "max_token_ids")] = Field(
        description="Token ids.", examples=[[300, 301]]
    )
