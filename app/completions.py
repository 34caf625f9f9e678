"""From a checked request for completions to its answer, whole or in chunks."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.schemas.openai import CompletionRequest
from app.special_tokens import Prompt, decode_prompt, encode_prompt
from app.token_texts import TokenTexts
from models.completion import Completion, Penalties, Piece, TokenChoice, complete
from models.errors import InvalidRequestError
from models.forward import Program, side_by_side
from models.language_model import LanguageModel
from models.sampling import Filters
from models.tokenizers import Tokenizer

JSON = dict[str, Any]
_SEEDS = 1 << 64


@dataclass(frozen=True)
class Event:
    """What happened to one prompt: it was read, or there is more of a completion of it."""

    prompt: int
    read: Sequence[TokenChoice] = ()
    piece: Piece | None = None

    @property
    def tokens(self) -> Sequence[TokenChoice]:
        """What is to be told of."""
        return self.read if self.piece is None else self.piece.tokens


def encode_prompts(
    model: LanguageModel, query: CompletionRequest, *, most_tokens: int, most_sequences: int
) -> list[Prompt]:
    """Read the prompts, within the bounds of what one request may ask for.

    Raises:
        InvalidRequestError: They ask for too much, or for tokens that there are not.
    """
    prompts = []
    tokens = 0
    for prompt in query.prompts:
        prompts.append(_encode(model.tokenizer, prompt))
        tokens += len(prompts[-1].token_ids)
        if tokens > most_tokens:
            raise InvalidRequestError("prompt", f"must have at most {most_tokens} tokens in all")
    if query.echo and query.logprobs is not None and tokens * query.n > most_tokens:
        message = f"must be at most {most_tokens // tokens}: with echo and logprobs, the prompts' "
        message += f"{tokens} tokens times n must be at most {most_tokens}"
        raise InvalidRequestError("n", message)
    best_of = query.best_of or query.n
    if best_of < query.n:
        raise InvalidRequestError("best_of", "must be at least n")
    if best_of > query.n and query.stream:
        raise InvalidRequestError("best_of", "must not be above n where stream is true")
    if len(prompts) * best_of > most_sequences:
        message = f"must be at most {most_sequences} completions in all, prompts times completions"
        raise InvalidRequestError("best_of" if query.best_of else "n", message)
    most = most_tokens // (len(prompts) * best_of)
    if query.logprobs is not None and query.max_tokens > most:
        message = f"must be at most {most}: with logprobs, prompts times completions times "
        message += f"max_tokens must be at most {most_tokens}"
        raise InvalidRequestError("max_tokens", message)
    return prompts


def _encode(tokenizer: Tokenizer, prompt: str | list[int]) -> Prompt:
    if isinstance(prompt, str):
        return encode_prompt(tokenizer, prompt)
    if max(prompt) >= tokenizer.num_ids:
        raise InvalidRequestError("prompt", f"must be token ids below {tokenizer.num_ids}")
    return Prompt(decode_prompt(tokenizer, prompt), prompt, [])


def _bias(model: LanguageModel, query: CompletionRequest) -> dict[int, float]:
    bias = {}
    for name, value in query.logit_bias.items():
        if not name.isascii() or not name.isdigit() or int(name) >= model.tokenizer.vocab_size:
            message = f"must name token ids below {model.tokenizer.vocab_size}"
            raise InvalidRequestError("logit_bias", message)
        bias[int(name)] = value
    return bias


class Completer:
    """Answers one request."""

    def __init__(
        self, model: LanguageModel, query: CompletionRequest, prompts: list[Prompt], *, name: str
    ) -> None:
        """Ask ``model`` how ``prompts``, those of ``query``, go on; ``name`` is the answer's id."""
        self._model, self._query, self._prompts = model, query, prompts
        self._scored = query.echo and query.logprobs is not None
        self._penalties = Penalties(
            query.frequency_penalty, query.presence_penalty, _bias(model, query)
        )
        self._head = {
            "id": f"cmpl-{name}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": f"fp_{model.checksum[:12]}",
        }
        self._written: dict[int, _Written] = {}  # by the index of the choice, for a stream
        self._completion_tokens = 0

    @property
    def items(self) -> int:
        """How much room it takes: whole distributions of the prompt take more."""
        return len(self._prompts) * max(self._query.best_of or self._query.n, 4 * self._scored)

    def program(self, on_event: Any = None) -> Program[list[Completion]]:
        """Return what computes the completions; ``on_event`` hears each `Event` at once."""
        return side_by_side([self._one(i, on_event) for i in range(len(self._prompts))])

    def _one(self, i: int, on_event: Any) -> Program[Completion]:
        query, prompt, tokenizer = self._query, self._prompts[i], self._model.tokenizer
        is_text = isinstance(query.prompts[i], str)
        return complete(
            self._model,
            prompt.token_ids,
            behind_bos=is_text and prompt.token_ids[:1] != [tokenizer.bos_id],
            ends_in_space=is_text and prompt.text[-1:].isspace(),
            score_prompt=self._scored,
            max_tokens=query.max_tokens,
            n=query.best_of or query.n,
            filters=Filters(
                temperature=query.temperature,
                top_k=query.top_k if query.top_k > 0 else None,
                top_p=query.top_p,
                min_p=query.min_p,
                repetition_penalty=query.repetition_penalty,
            ),
            penalties=self._penalties,
            top=query.logprobs or 0,
            seed=None if query.seed is None else query.seed % _SEEDS,
            stop=query.stops,
            on_prompt=on_event and (lambda tokens: on_event(Event(i, read=tokens))),
            on_piece=on_event and (lambda piece: on_event(Event(i, piece=piece))),
        )

    def answer(self, completions: Iterable[Completion]) -> JSON:
        """Return the whole answer."""
        query = self._query
        choices: list[JSON] = []
        generated = 0
        for i, completion in enumerate(completions):
            generated += sum(len(result.tokens) for result in completion.results)
            results = completion.results
            if len(results) > query.n:
                results = sorted(results, key=lambda result: -result.mean_log_prob)[: query.n]
            before, echoed, written = self._echo(i, completion.prompt)
            for result in results:
                text = before + result.text
                logprobs = self._logprobs(written.copy(), result.tokens, most=len(text))
                choices.append(
                    {
                        "index": len(choices),
                        "text": text,
                        "logprobs": _joined(echoed, logprobs),
                        "finish_reason": result.finish_reason,
                    }
                )
        return {**self._head, "choices": choices, "usage": self._usage(generated)}

    def chunks(self, event: Event) -> list[JSON]:
        """Return what a stream says of an event."""
        query = self._query
        if event.piece is None:
            indexes = range(event.prompt * query.n, (event.prompt + 1) * query.n)
            before, echoed, written = self._echo(event.prompt, event.read)
            self._written |= {index: written.copy() for index in indexes}
            return [self._chunk(index, before, echoed, None) for index in indexes if query.echo]
        piece = event.piece
        index = event.prompt * query.n + piece.index
        written = self._written[index]
        self._completion_tokens += len(piece.tokens)
        tokens = written.take(piece)
        logprobs = self._logprobs(written, tokens, most=written.sent)
        return [self._chunk(index, piece.text, logprobs, piece.finish_reason)]

    def last_chunks(self) -> list[JSON]:
        """Return the chunk with the usage, if that was asked for."""
        if not self._query.stream_options.include_usage:
            return []
        return [{**self._head, "choices": [], "usage": self._usage(self._completion_tokens)}]

    def _chunk(self, index: int, text: str, logprobs: JSON | None, reason: str | None) -> JSON:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "choices": [choice], "usage": None}

    def _usage(self, generated: int) -> JSON:
        given = sum(len(prompt.token_ids) for prompt in self._prompts)
        return {
            "prompt_tokens": given,
            "completion_tokens": generated,
            "total_tokens": given + generated,
        }

    def _echo(self, i: int, read: Sequence[TokenChoice]) -> tuple[str, JSON | None, "_Written"]:
        """Return a prompt and its tokens, for all its choices, and where each goes on from."""
        prompt, written = self._prompts[i], _Written(TokenTexts(self._model.tokenizer))
        logprobs: JSON | None = None
        if self._query.logprobs is not None:
            logprobs = self._logprobs(written, read, parts=prompt.parts)
            if not self._scored:
                written.texts.read(prompt.token_ids)
        text = prompt.text if self._query.echo else ""
        written.offset = written.sent = len(text)
        return text, logprobs, written

    def _logprobs(
        self,
        written: "_Written",
        tokens: Iterable[TokenChoice],
        *,
        parts: Sequence[str] = (),
        most: int | None = None,
    ) -> JSON | None:
        """Describe tokens; ``parts`` are their texts where they are known, ``most`` the end."""
        if self._query.logprobs is None:
            return None
        described: JSON = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        special = (self._model.tokenizer.bos_id, self._model.tokenizer.eos_id)
        for place, token in enumerate(tokens):
            others = [(i, p, written.texts.of(i)) for i, p in token.top if i != token.token_id]
            text = written.texts.next(token.token_id)
            text = parts[place] if parts else text
            described["tokens"].append(text)
            described["token_logprobs"].append(token.log_prob)
            described["top_logprobs"].append(_top(token, text, others))
            described["text_offset"].append(
                written.offset if most is None else min(written.offset, most)
            )
            # An end of sentence that was generated stands in no text.
            if token.token_id not in special or most is None:
                written.offset += len(text)
        return described


@dataclass
class _Written:
    """How far the text of one choice is, and in a stream how far it was sent, characters."""

    texts: TokenTexts
    offset: int = 0
    sent: int = 0
    waiting: deque[TokenChoice] = field(default_factory=deque)  # for their text to be sent

    def copy(self) -> "_Written":
        return _Written(self.texts.copy(), self.offset, self.sent, self.waiting.copy())

    def take(self, piece: Piece) -> Iterator[TokenChoice]:
        """Return the tokens that may be told of when this is sent, while ``offset`` goes along.

        Where a text is held back, as it may become a stop string, nobody knows yet where its tokens
        will stand.
        """
        self.sent += len(piece.text)
        self.waiting += piece.tokens
        return self._settled(ended=piece.finish_reason is not None)

    def _settled(self, *, ended: bool) -> Iterator[TokenChoice]:
        while self.waiting and (ended or self.offset < self.sent):
            yield self.waiting.popleft()


def _top(
    token: TokenChoice, text: str, others: Iterable[tuple[int, float, str]]
) -> dict[str, float] | None:
    if token.log_prob is None:
        return None
    top = {text: token.log_prob}
    for token_id, log_prob, name in others:
        top[f"token_id:{token_id}" if name in top or not name else name] = log_prob
    return top


def _joined(logprobs: JSON | None, more: JSON | None) -> JSON | None:
    """Return new lists; the first ones belong to other choices too."""
    if logprobs is None or more is None:
        return None
    return {name: [*values, *more[name]] for name, values in logprobs.items()}
