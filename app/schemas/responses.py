"""What is answered. Log-probabilities are natural logarithms; null means "not scored"."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Context(BaseModel):
    """What was read before the prediction."""

    tokens: int = Field(description="Tokens read, the start of the sentence included.")
    truncated: bool = Field(description="The model does not reach back to the beginning.")


class Prediction(BaseModel):
    """A word of the list."""

    word: str = Field(description="The whole word as it is written; the typed prefix included.")
    probability: float = Field(description="That this word comes next; given the prefix, if any.")
    log_prob: float = Field(description="Its natural logarithm.")
    rank: int = Field(description="Place in the list, from 1.")


class Candidate(BaseModel):
    """A word that was asked about."""

    word: str = Field(description="As it was given.")
    probability: float | None = Field(description="Null where the vocabulary lacks the word.")
    log_prob: float | None = Field(description="Null where the probability is null or 0.")
    rank: int | None = Field(description="Place in the list of predictions; null if not in it.")
    oov: bool = Field(description="The vocabulary lacks the word.")


class NextWordResponse(BaseModel):
    """The next-word distribution."""

    model: str = Field(description="Name of the model that answered.")
    predictions: list[Prediction] = Field(description="Most probable first.")
    candidates: list[Candidate] = Field(description="In the order given.")
    covered_mass: float = Field(
        description="Probability of every finished outcome that was seen, listed or not. The rest "
        "was not expanded, or is no way to write a word; it is never spread over the list."
    )
    oov_mass: float = Field(description="Probability of a word outside the vocabulary.")
    entropy_bits: float | None = Field(
        description="Entropy of the next-word distribution; null unless the whole was asked for."
    )
    context: Context = Field(description="What was read.")
    proven: bool = Field(
        description="The list is exactly the top of the distribution; false only for a question so "
        "open that the search gave up: then it is the best that was found, for phrases by a beam."
    )


class WordScore(BaseModel):
    """One word of a scored text."""

    text: str = Field(description="Its characters.")
    start: int = Field(description="Offset of its first character in the text.")
    end: int = Field(description="Offset behind its last character.")
    log_prob: float | None = Field(description="Given everything before it; null: not scored.")
    surprisal_bits: float | None = Field(description="The same as surprisal, bits.")
    rank: int | None = Field(
        description="Place among all next words, from 1; null where only a search could tell."
    )
    oov: bool = Field(description="The vocabulary lacks the word.")


class SentenceScore(BaseModel):
    """A scored text."""

    text: str = Field(description="The text.")
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


class ScoreResponse(BaseModel):
    """How likely the texts are."""

    model: str = Field(description="Name of the model that answered.")
    results: list[SentenceScore] = Field(description="In the order given.")


class RankedText(BaseModel):
    """An alternative in its place."""

    index: int = Field(description="Where it stood in the request, from 0.")
    text: str = Field(description="The alternative.")
    log_prob: float = Field(description="Of the text, its end included.")
    total: float = Field(description="What it was ordered by.")
    probability: float = Field(description="Softmax of `total` over the list.")


class RankResponse(BaseModel):
    """The alternatives, ordered."""

    model: str = Field(description="Name of the model that answered.")
    results: list[RankedText] = Field(description="Best first.")


class TokenScore(BaseModel):
    """One generated token."""

    text: str = Field(description="Its characters; empty for the end of the sentence.")
    log_prob: float = Field(description="Of the model itself: no filter or penalty touches it.")


class Continuation(BaseModel):
    """One way in which the text goes on."""

    text: str = Field(description="The continuation only; joins on to the request's text.")
    finish_reason: Literal["stop", "length"] = Field(
        description="`stop`: the sentence ended or a stop string came; `length`: `max_tokens`."
    )
    log_prob: float = Field(description="Of all its tokens, the end of the sentence included.")
    tokens: list[TokenScore] | None = Field(description="Null unless `log_probs` is true.")


class Usage(BaseModel):
    """What was computed."""

    prompt_tokens: int = Field(description="Tokens read, the start of the sentence included.")
    completion_tokens: int = Field(description="Tokens generated, in all continuations.")


class GenerateResponse(BaseModel):
    """How the text goes on."""

    model: str = Field(description="Name of the model that answered.")
    results: list[Continuation] = Field(description="As many as were asked for.")
    usage: Usage = Field(description="What was computed.")


class TokenizeResponse(BaseModel):
    """A text as tokens."""

    model: str = Field(description="Name of the model that answered.")
    tokens: list[int] = Field(description="Token ids.")
    count: int = Field(description="How many there are.")
    max_model_len: int | None = Field(
        description="How far back the model reaches, tokens; null where there is no fixed reach."
    )


class DetokenizeResponse(BaseModel):
    """Tokens as text."""

    model: str = Field(description="Name of the model that answered.")
    text: str = Field(description="The text; tokens that begin or end a sentence are left out.")
    prompt: str = Field(
        description="The same as a `prompt`: such tokens by name, as /tokenize reads them."
    )


class TokenizerInfo(BaseModel):
    """The tokenizer of a model."""

    model: str = Field(description="Name of the model.")
    kind: str = Field(description="`subword`, `word` or `wikitext`.")
    vocab_size: int = Field(description="Token ids that can be predicted.")
    bos_token: str = Field(description="Name of the token that starts a sentence.")
    bos_token_id: int = Field(description="Its id.")
    eos_token: str = Field(description="Name of the token that ends a sentence.")
    eos_token_id: int = Field(description="Its id.")
    unk_token: str | None = Field(
        description="Name of the token for words outside the vocabulary; null where none is."
    )
    unk_token_id: int | None = Field(description="Its id.")
    max_model_len: int | None = Field(
        description="How far back the model reaches, tokens; null where there is no fixed reach."
    )


class ModelInfo(BaseModel):
    """A loaded model."""

    name: str = Field(description="How to ask for it.")
    default: bool = Field(description="Requests that name no model get this one.")
    architecture: str = Field(description="`rnn`, `gru`, `lstm` or `transformer`.")
    parameters: int = Field(description="Number of weights, shared ones counted once.")
    vocab_size: int = Field(description="Token ids that can be predicted.")
    tokenizer: str = Field(description="`subword`, `word` or `wikitext`.")
    context_length: int | None = Field(
        description="How far back it reaches, tokens; null where there is no fixed reach."
    )
    network: dict[str, Any] = Field(description="Every size of the network.")
    temperature: float = Field(description="Calibration: divides all logits.")
    corpus: Any = Field(description="What it was trained on; null if its checkpoint does not tell.")
    metrics: Any = Field(description="How good it is; null if its checkpoint does not tell.")
    checksum: str = Field(description="SHA-256 of the weights' file, hexadecimal.")


class ModelList(BaseModel):
    """All loaded models."""

    models: list[ModelInfo] = Field(description="By name.")


class Status(BaseModel):
    """A sign of life."""

    status: Literal["ok"] = Field(description="Always `ok`; anything else is a problem.")


class Readiness(BaseModel):
    """Ready to answer."""

    status: Literal["ready"] = Field(description="Always `ready`; anything else is a problem.")
    models: list[str] = Field(description="Names of the loaded models.")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Its place in the body, such as `candidates.3.text`.")
    message: str = Field(description="What is wrong; never quotes what was sent.")


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str = Field(description="Always `about:blank`: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened here; never quotes what was sent.")
    errors: list[FieldProblem] = Field(description="Faults of single fields, if that is why.")
    request_id: str = Field(description="The same as in the header X-Request-ID.")
