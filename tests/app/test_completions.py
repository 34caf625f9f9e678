"""What an answer to OpenAI's clients costs, whatever they ask for."""

import threading
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.completions import Completer, Event, encode_prompts
from app.schemas.openai import CompletionRequest
from app.token_texts import TokenTexts
from models.errors import InvalidRequestError
from models.forward import run
from models.language_model import LanguageModel
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]


def test_a_prompt_is_described_once_for_all_its_completions(models: Models):
    query = CompletionRequest(
        prompt="my sister sold coffee, I", n=4, echo=True, logprobs=3, max_tokens=5, seed=1
    )
    model = models[SUBWORD]
    prompts = encode_prompts(model, query, most_tokens=1000, most_sequences=10)
    completer = Completer(model, query, prompts, name="0")
    choices = completer.answer(run(completer.program(), model))["choices"]
    assert len({choice["text"] for choice in choices}) > 1
    read = len(prompts[0].token_ids)
    first, *others = [choice["logprobs"]["top_logprobs"] for choice in choices]
    for other in others:
        assert all(a is b for a, b in zip(first[:read], other[:read], strict=True))
    # What comes behind it is each one's own.
    lengths = [len(choice["logprobs"]["tokens"]) for choice in choices]
    assert lengths == [read + 5] * 4


@pytest.mark.parametrize("name", [SUBWORD, WORD])
def test_a_stream_says_where_tokens_stand_as_the_whole_answer_does(models: Models, name):
    model = models[name]
    options = {"prompt": "we", "logprobs": 0, "max_tokens": 12, "echo": True, "seed": 4, "n": 3}

    def completer(**asked) -> Completer:
        query = CompletionRequest(**options | asked)
        prompts = encode_prompts(model, query, most_tokens=1000, most_sequences=10)
        return Completer(model, query, prompts, name="0")

    text = str(whole_answer(completer(), model)[0]["text"]).removeprefix("we")
    # Stop strings that come, some of which hold several tokens back, and some that never do.
    stops = [text[at : at + length] for at in range(len(text)) for length in (2, 9)]
    stops += [stop + "#" for stop in stops[::3]]
    for stop in stops:
        whole = whole_answer(completer(stop=stop), model)
        streaming = completer(stop=stop, stream=True)
        events: list[Event] = []
        run(streaming.program(events.append), model)
        sent = [""] * 3
        offsets: list[list[int]] = [[], [], []]
        for chunk in (chunk for event in events for chunk in streaming.chunks(event)):
            (choice,) = chunk["choices"]
            index = choice["index"]
            sent[index] += choice["text"]
            offsets[index] += choice["logprobs"]["text_offset"]
            assert max(offsets[index]) <= len(sent[index])
        assert sent == [choice["text"] for choice in whole]
        assert offsets == [choice["logprobs"]["text_offset"] for choice in whole]


def whole_answer(completer: Completer, model: LanguageModel) -> list[dict[str, Any]]:
    choices: list[dict[str, Any]] = completer.answer(run(completer.program(), model))["choices"]
    return choices


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_prompt_is_described_away_from_the_event_loop(
    client: TestClient, models: Models, monkeypatch, stream
):
    tokenizer = models[SUBWORD].tokenizer
    unfinished = [i for i in np.flatnonzero(~tokenizer.is_word_end) if i != tokenizer.eos_id]
    threads: dict[str, set] = {"begin": set(), "next": set()}
    begin, go_on = Completer.__init__, TokenTexts.next

    def watched_begin(self, *args, **options) -> None:
        threads["begin"].add(threading.current_thread())  # the endpoint runs in the event loop
        begin(self, *args, **options)

    def watched_next(self, token_id: int) -> str:
        threads["next"].add(threading.current_thread())
        return go_on(self, token_id)

    monkeypatch.setattr(Completer, "__init__", watched_begin)
    monkeypatch.setattr(TokenTexts, "next", watched_next)
    body = {"prompt": [int(unfinished[i % 50]) for i in range(300)], "max_tokens": 0, "n": 3}
    body |= {"echo": True, "logprobs": 2, "stream": stream, "model": SUBWORD}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert answer.text.count('"token_logprobs":[null,') == 3
    assert threads["begin"]
    assert threads["next"]
    assert not threads["begin"] & threads["next"]


def test_what_an_echo_takes_is_bounded_for_all_completions_together(models: Models):
    model = models[SUBWORD]
    most = {"most_tokens": 100, "most_sequences": 10}
    options = {"prompt": [[5] * 30, [6] * 20], "n": 2, "logprobs": 1}
    for asked in ({"echo": True}, {"n": 3}, {"logprobs": None, "echo": True, "n": 3}):
        assert encode_prompts(model, CompletionRequest(**options | asked), **most)
    with pytest.raises(InvalidRequestError, match="n: must be at most 2") as caught:
        encode_prompts(model, CompletionRequest(**options | {"n": 3, "echo": True}), **most)
    assert caught.value.field == "n"


def test_what_completions_are_described_is_bounded_for_all_together(models: Models):
    model = models[SUBWORD]
    most = {"most_tokens": 120, "most_sequences": 10}
    options = {"prompt": ["we", "you"], "n": 2, "best_of": 3, "logprobs": 0, "max_tokens": 20}
    for asked in ({}, {"max_tokens": 21, "logprobs": None}, {"max_tokens": 30, "best_of": 2}):
        assert encode_prompts(model, CompletionRequest(**options | asked), **most)
    with pytest.raises(InvalidRequestError, match="max_tokens: must be at most 20") as caught:
        encode_prompts(model, CompletionRequest(**options | {"max_tokens": 21}), **most)
    assert caught.value.field == "max_tokens"


def test_prompts_beyond_the_bound_are_not_read(models: Models, monkeypatch):
    model = models[SUBWORD]
    encoded = []
    encode = type(model.tokenizer).encode
    monkeypatch.setattr(
        model.tokenizer,
        "encode",
        lambda text: encoded.append(text) or encode(model.tokenizer, text),
    )
    query = CompletionRequest(prompt=["a" * 60, "b" * 60, "c" * 60, "d" * 60])
    with pytest.raises(InvalidRequestError, match="at most 100 tokens"):
        encode_prompts(model, query, most_tokens=100, most_sequences=10)
    assert encoded == ["a" * 60, "b" * 60]
