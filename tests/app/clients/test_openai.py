"""OpenAI's own client against a served model."""

import httpx
import numpy as np
import openai
import pytest

from models.forward import run
from models.generate import generate
from models.language_model import LanguageModel
from models.score import score
from tests.app.clients.oracle import distributions, greedy
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
BOTH = pytest.mark.parametrize("name", [SUBWORD, WORD])
TEXT = "my sister sold coffee, I"


@BOTH
def test_a_text_goes_on_as_generate_says(ask: openai.OpenAI, models: Models, name):
    for prompt in (TEXT, "", "we have seen ", "coffee.\nour"):
        done = ask.completions.create(model=name, prompt=prompt, max_tokens=9, temperature=0)
        expected = run(generate(models[name], prompt, max_tokens=9), models[name])
        (choice,) = done.choices
        assert choice.text == expected.results[0].text
        assert choice.finish_reason == expected.results[0].finish_reason
        assert choice.logprobs is None
        assert (done.object, done.model) == ("text_completion", name)
        assert done.id.startswith("cmpl-")
        assert done.usage.completion_tokens == expected.completion_tokens
        assert done.usage.prompt_tokens == expected.prompt_tokens - 1  # BOS is no part of it
        assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


@BOTH
def test_token_ids_are_read_as_they_are(ask: openai.OpenAI, models: Models, name):
    model = models[name]
    token_ids = model.tokenizer.encode(TEXT).token_ids
    # Behind BOS only where that stands there, so that the two go on differently.
    bare = ask.completions.create(
        model=name, prompt=token_ids, max_tokens=8, temperature=0, logprobs=0
    )
    begun = ask.completions.create(
        model=name, prompt=[[model.tokenizer.bos_id, *token_ids]], max_tokens=8, temperature=0
    )
    expected = greedy(model, token_ids, 8)
    rows = distributions(model, [*token_ids, *expected])[len(token_ids) - 1 :]
    assert bare.choices[0].logprobs.token_logprobs == pytest.approx(
        [float(row[i]) for row, i in zip(rows, expected, strict=False)], abs=1e-5
    )
    text = ask.completions.create(model=name, prompt=TEXT, max_tokens=8, temperature=0)
    assert begun.choices[0].text == text.choices[0].text
    assert begun.usage.prompt_tokens == len(token_ids) + 1


@BOTH
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_a_prompt_is_scored(ask: openai.OpenAI, models: Models, name, max_tokens):
    model = models[name]
    tokenizer = model.tokenizer
    token_ids = [
        *tokenizer.encode(TEXT).token_ids,
        tokenizer.eos_id,
        *tokenizer.encode("you").token_ids,
    ]
    done = ask.completions.create(
        model=name, prompt=token_ids, max_tokens=max_tokens, echo=True, logprobs=3, temperature=0
    )
    (choice,) = done.choices
    logprobs = choice.logprobs
    count = len(token_ids) + max_tokens
    assert {len(v) for v in (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs)} == {
        count
    }
    assert len(logprobs.text_offset) == count
    assert [i for i, value in enumerate(logprobs.token_logprobs) if value is None] == [0]
    assert logprobs.top_logprobs[0] is None
    whole = token_ids + greedy(model, token_ids, max_tokens)
    rows = distributions(model, whole)
    for i in range(1, count):
        assert logprobs.token_logprobs[i] == pytest.approx(float(rows[i - 1, whole[i]]), abs=1e-5)
        top = sorted(logprobs.top_logprobs[i].values(), reverse=True)
        assert top[:3] == pytest.approx(np.sort(rows[i - 1])[::-1][:3].tolist(), abs=1e-5)
        assert logprobs.top_logprobs[i][logprobs.tokens[i]] == logprobs.token_logprobs[i]
        if whole[i] == int(rows[i - 1].argmax()):
            assert logprobs.token_logprobs[i] == max(logprobs.top_logprobs[i].values())
    assert choice.finish_reason == ("stop" if whole[-1] == tokenizer.eos_id else "length")
    assert done.usage.completion_tokens == max_tokens


@BOTH
def test_a_text_prompt_is_scored_like_a_sentence(ask: openai.OpenAI, models: Models, name):
    prompt = "the doctor  would book\ttwo red houses. "
    done = ask.completions.create(
        model=name, prompt=f"<s>{prompt}", max_tokens=0, echo=True, logprobs=1
    )
    logprobs = done.choices[0].logprobs
    expected = run(score(models[name], prompt, eos=False), models[name])
    assert sum(logprobs.token_logprobs[1:]) == pytest.approx(expected.log_prob, abs=1e-4)
    # Without its name BOS is read all the same, but the first token is not scored then.
    plain = ask.completions.create(model=name, prompt=prompt, max_tokens=0, echo=True, logprobs=1)
    assert plain.choices[0].logprobs.token_logprobs == [None, *logprobs.token_logprobs[2:]]
    assert plain.choices[0].text == prompt
    tokens, offsets = plain.choices[0].logprobs.tokens, plain.choices[0].logprobs.text_offset
    assert "".join(tokens) == prompt.rstrip()
    ends = [*offsets[1:], len(prompt.rstrip())]
    assert [prompt[start:end] for start, end in zip(offsets, ends, strict=True)] == tokens


@BOTH
def test_texts_of_tokens_are_the_text(ask: openai.OpenAI, models: Models, name):
    tokenizer = models[name].tokenizer
    rng = np.random.default_rng(3)
    for _ in range(20):
        token_ids = rng.integers(0, tokenizer.num_ids, 30).tolist()
        done = ask.completions.create(
            model=name, prompt=token_ids, max_tokens=0, echo=True, logprobs=2
        )
        (choice,) = done.choices
        assert len(choice.logprobs.tokens) == 30
        assert all(-9999 <= value <= 0 for value in choice.logprobs.token_logprobs[1:])
        assert all(2 <= len(top) <= 3 for top in choice.logprobs.top_logprobs[1:])
    written = ask.completions.create(
        model=name, prompt=tokenizer.encode("“Héllo, wörld 你好!”, (we) don't").token_ids,
        max_tokens=0, echo=True, logprobs=0,
    ).choices[0]  # fmt: skip
    assert "".join(written.logprobs.tokens) == written.text
    if name == SUBWORD:
        assert written.text == "“Héllo, wörld 你好!”, (we) don't"


def test_many_prompts_and_many_completions(ask: openai.OpenAI, models: Models):
    prompts = [TEXT, "we", "the doctor"]
    together = ask.completions.create(
        model=SUBWORD, prompt=prompts, n=2, max_tokens=6, seed=5, echo=True, logprobs=1
    )
    assert [choice.index for choice in together.choices] == list(range(6))
    alone = [
        choice
        for prompt in prompts
        for choice in ask.completions.create(
            model=SUBWORD, prompt=prompt, n=2, max_tokens=6, seed=5, echo=True, logprobs=1
        ).choices
    ]
    assert [choice.text for choice in together.choices] == [choice.text for choice in alone]
    assert together.choices[0].text != together.choices[1].text
    for i, choice in enumerate(together.choices):
        assert choice.text.startswith(prompts[i // 2])
    counted = sum(len(choice.logprobs.tokens) for choice in together.choices[::2])
    generated = together.usage.completion_tokens
    assert together.usage.prompt_tokens < counted
    assert 6 <= generated <= 36


def test_a_seed_repeats_and_others_differ(ask: openai.OpenAI):
    def text(**options) -> str:
        done = ask.completions.create(model=SUBWORD, prompt="we", max_tokens=20, **options)
        return done.choices[0].text

    assert text(seed=1) == text(seed=1)
    assert text(seed=-1) == text(seed=-1)
    assert len({text(seed=seed) for seed in range(5)}) > 1
    assert text(temperature=0) == text(top_p=0, seed=3) == text(seed=4, extra_body={"top_k": 1})


def test_a_stop_string_ends_the_text_before_it(ask: openai.OpenAI):
    whole = ask.completions.create(model=SUBWORD, prompt="we", max_tokens=40, temperature=0)
    text = whole.choices[0].text
    cut = text[len(text) // 2 :][:3]
    for stop in (cut, ["never there", cut]):
        done = ask.completions.create(
            model=SUBWORD, prompt="we", max_tokens=40, temperature=0, stop=stop
        )
        assert done.choices[0].text == text[: text.index(cut)]
        assert done.choices[0].finish_reason == "stop"


def test_best_of_returns_the_best(ask: openai.OpenAI):
    options = {"model": SUBWORD, "prompt": "we", "max_tokens": 8, "seed": 2, "logprobs": 0}
    every = ask.completions.create(n=8, **options)

    def mean(choice) -> float:
        return float(np.mean(choice.logprobs.token_logprobs))

    best = ask.completions.create(n=2, best_of=8, **options)
    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.usage == every.usage


def test_penalties_and_biases(ask: openai.OpenAI, models: Models):
    tokenizer = models[SUBWORD].tokenizer
    options = {"model": SUBWORD, "prompt": "we", "max_tokens": 12, "temperature": 0, "logprobs": 0}
    wanted = int(np.flatnonzero(tokenizer.is_word_end)[20])
    done = ask.completions.create(logit_bias={str(wanted): 100}, **options)
    assert done.choices[0].text.strip() == tokenizer.decode([wanted] * 12)
    # A score is the model's own, whatever bent the choice.
    row = distributions(models[SUBWORD], [tokenizer.bos_id, *tokenizer.encode("we").token_ids])[-1]
    assert done.choices[0].logprobs.token_logprobs[0] == pytest.approx(float(row[wanted]), abs=1e-5)
    plain = ask.completions.create(logit_bias={str(tokenizer.eos_id): -100}, **options)
    apart = ask.completions.create(
        presence_penalty=2, frequency_penalty=2, logit_bias={str(tokenizer.eos_id): -100}, **options
    )
    assert apart.choices[0].text != plain.choices[0].text
    assert len(set(apart.choices[0].logprobs.tokens)) > len(set(plain.choices[0].logprobs.tokens))


@BOTH
@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_tells_the_same(ask: openai.OpenAI, name, echo):
    options = {
        "model": name, "prompt": [TEXT, "we"], "n": 2, "max_tokens": 10, "seed": 3,
        "echo": echo, "logprobs": 2, "stop": ["book"],
    }  # fmt: skip
    whole = ask.completions.create(**options)
    chunks = list(
        ask.completions.create(stream=True, stream_options={"include_usage": True}, **options)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    for index, expected in enumerate(whole.choices):
        parts = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == index]
        assert "".join(part.text for part in parts) == expected.text
        assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].finish_reason == expected.finish_reason
        for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            told = [value for part in parts for value in getattr(part.logprobs, field)]
            assert told == getattr(expected.logprobs, field)


def test_a_stream_without_options_ends_without_usage(ask: openai.OpenAI, address: str):
    chunks = list(ask.completions.create(model=SUBWORD, prompt="we", max_tokens=4, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    body = {"prompt": "we", "max_tokens": 4, "stream": True}
    raw = httpx.post(f"{address}/v1/completions", json=body)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("\n\ndata: [DONE]\n\n")


def test_models_are_listed(ask: openai.OpenAI):
    listed = ask.models.list().data
    assert [model.id for model in listed] == [SUBWORD, WORD]
    assert listed[0].created > 1_700_000_000
    assert ask.models.retrieve(WORD).id == WORD
    with pytest.raises(openai.NotFoundError):
        ask.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": [-1]}, "prompt.0"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": ["a"] * 200, "n": 2}, "n"),
        ({"prompt": [[1] * 20_000] * 2}, "prompt"),
        ({"prompt": [[1] * 17_000], "n": 2, "echo": True, "logprobs": 0}, "n"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"stop": [""]}, "stop.0"),
        ({"suffix": "x"}, "suffix"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(ask: openai.OpenAI, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.completions.create(**{"model": SUBWORD, "prompt": "SECRET we"} | options)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param
    assert "SECRET" not in str(caught.value)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


def test_other_errors_have_openais_form_too(ask: openai.OpenAI, address: str):
    with pytest.raises(openai.NotFoundError) as caught:
        ask.completions.create(model="nobody", prompt="we")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    with httpx.Client(base_url=address) as client:
        for answer, status in (
            (client.get("/v1/completions"), 405),
            (client.get("/v1/nothing"), 404),
            (client.post("/v1/completions", content=b"{"), 415),
            (
                client.post(
                    "/v1/completions", content=b"{", headers={"content-type": "application/json"}
                ),
                400,
            ),
            (client.post("/v1/completions", json={"prompt": "a" * 2_000_000}), 413),
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-request-id"]
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
            assert answer.json()["error"]["message"]
        assert client.get("/v1/completions").headers["allow"] == "POST"
        # The native routes keep theirs.
        assert client.get("/next-word").headers["content-type"] == "application/problem+json"


def test_what_is_null_or_unknown_is_as_if_left_out(ask: openai.OpenAI):
    plain = ask.completions.create(model=SUBWORD, prompt="we", temperature=0)
    nulls = ["max_tokens", "n", "stop", "logprobs", "echo", "stream", "seed", "suffix", "best_of"]
    odd = ask.completions.create(
        model=SUBWORD, prompt="we", temperature=0, user="me",
        extra_body=dict.fromkeys(nulls) | {"something": [1]},
    )  # fmt: skip
    assert odd.choices == plain.choices
    options = {"model": SUBWORD, "prompt": "we", "temperature": 0, "stream": True}
    within = ask.completions.create(**options, stream_options={"include_usage": None})
    assert "".join(chunk.choices[0].text for chunk in within) == plain.choices[0].text
    assert plain.usage.completion_tokens <= 16


def test_a_prompt_as_long_as_the_context_less_one(ask: openai.OpenAI, models: Models):
    context = models[WORD].network.context_length
    rng = np.random.default_rng(1)
    for count in (context - 1, context, 40 * context):
        token_ids = rng.integers(1, models[WORD].tokenizer.vocab_size, count).tolist()
        done = ask.completions.create(
            model=WORD, prompt=[token_ids], max_tokens=1, echo=True, logprobs=1, temperature=0
        )
        assert len(done.choices[0].logprobs.token_logprobs) == count + 1
