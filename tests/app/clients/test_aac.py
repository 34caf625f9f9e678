"""Keyboards that speak Imagineville's API, and pages that ask from a browser."""

import asyncio
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.application import create_app
from app.settings import Settings
from models.checkpoint import load_checkpoint
from models.forward import run
from models.language_model import LanguageModel
from models.next_character import next_character
from models.next_word import next_word
from models.score import score
from tests.app.clients.oracle import distributions
from tests.app.conftest import SUBWORD, WORD, wait_until_ready
from tests.models.helpers import model_of
from tests.models.test_next_word_prefix import begun_log_prob

Models = dict[str, LanguageModel]
PAGE = "https://keyboard.example"
# What OpenAI's client for JavaScript asks leave for.
SENT = {
    "access-control-request-headers": "authorization,content-type,x-stainless-arch,"
    "x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,"
    "x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
}


@pytest.mark.parametrize(
    ("asked", "text", "prefix", "num"),
    [
        ({"left": "my sister", "prefix": "so", "num": 3}, "my sister", "so", 3),
        ({"left": "my sister "}, "my sister ", "", 5),
        ({"left": "my", "prefix": "sister so"}, "my sister", "so", 5),
        ({"left": "my sister", "prefix": " "}, "my sister ", "", 5),
        ({"right": "x", "vocab": "100k", "sort": "logprob", "safe": "on", "lang": "en"}, "", "", 5),
        ({"left": "we", "model": WORD}, "we", "", 5),
    ],
)
def test_words_are_those_of_the_model(client: TestClient, models: Models, asked, text, prefix, num):
    model = models[asked.get("model", SUBWORD)]
    answer = client.get("/word/predict", params=asked)
    assert answer.status_code == 200
    expected = run(next_word(model, text, prefix=prefix, top_k=num), model).predictions
    assert answer.json()["words"] == [word.word for word in expected]
    assert answer.json()["results"] == [
        {"text": word.word, "logProb": pytest.approx(word.log_prob, abs=1e-5)} for word in expected
    ]
    assert len(expected) == num or model.name == WORD


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"num": 0}, 422),
        ({"num": "many"}, 422),
        ({"num": "5.0"}, 422),
        ({"num": "1_0"}, 422),
        ({"num": 10**6}, 422),
        ({"left": "a" * 3000}, 422),
        ({"prefix": "a" * 65}, 422),
        ({"model": "nobody"}, 404),
    ],
)
def test_what_cannot_be_asked_is_a_problem(client: TestClient, params, status):
    answer = client.get("/word/predict", params=params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    if "prefix" not in params:
        assert client.get("/character/predict", params=params).status_code == status


def get(client: TestClient, path: str, query: bytes) -> tuple[int, dict]:
    """Ask with just these bytes as the query, which clients would escape."""
    sent: list = []

    async def receive() -> dict:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}
    client.portal.call(client.app, scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message["body"] for message in sent[1:]))


@pytest.mark.parametrize(
    "query", [b"left=%ff", b"left=we&prefix=%c3", b"left=%ED%A0%80", b"left=\xe9"]
)
@pytest.mark.parametrize("path", ["/word/predict", "/character/predict"])
def test_text_that_is_not_unicode_is_refused(client: TestClient, path, query):
    status, problem = get(client, path, query)
    assert status == 400
    assert problem["detail"] == "The query is not valid Unicode, as escaped UTF-8."


def test_utf8_is_read_as_that_escaped_or_not(client: TestClient):
    queries = [b"left=d%C3%A9+%2b", "left=dé%20%2B".encode(), b"left=d%c3%83%c2%a9+%2b"]
    escaped, plain, other = [get(client, "/character/predict", query) for query in queries]
    assert escaped == plain
    assert escaped[0] == 200
    assert escaped != other  # what Latin-1 would make of it


def test_characters_over_http(client: TestClient, models: Models):
    model = models[SUBWORD]
    answer = client.get("/character/predict", params={"left": "my sister so"}).json()
    expected = run(next_character(model, "my sister so"), model)
    assert answer["results"] == [
        {"text": c.text, "logProb": pytest.approx(c.log_prob, abs=1e-5)} for c in expected
    ]
    few = client.get("/character/predict", params={"left": "my sister so", "num": 2}).json()
    assert few["results"] == answer["results"][:2]


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("tokenizer", ["subword", "word"])
def test_letters_have_the_share_of_the_words_that_go_on_so(kind, tokenizer):
    model = model_of(kind, tokenizer)
    # A random model spreads its probability over so many spellings that the search gives up early.
    for context, stem in (("the cat ", "s"), ("the ", "compu")):
        found = {c.text: c.probability for c in run(next_character(model, context + stem), model)}
        whole = math.exp(begun_log_prob(model, context, stem.encode()))
        seen = 0
        for letter in "aeidnt":
            share = math.exp(begun_log_prob(model, context, (stem + letter).encode())) / whole
            assert found.get(letter, 0.0) == pytest.approx(share, abs=2e-3)
            seen += share > 1e-3
        assert seen >= (tokenizer == "subword")
        assert 0.5 < sum(found.values()) <= 1 + 1e-6


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_an_apostrophe_is_within_a_word_or_behind_it(kind):
    model = model_of(kind)
    within = math.exp(begun_log_prob(model, "the", b"teacher'"))
    word = math.exp(run(score(model, "teacher", context="the", eos=False), model).log_prob)
    ended = word * math.exp(begun_log_prob(model, "the teacher", b"\x01'"))
    letter = math.exp(begun_log_prob(model, "the", b"teacher's"))
    found = {c.text: c.probability for c in run(next_character(model, "the teacher'"), model)}
    assert found["s"] <= (letter + ended) / (within + ended) + 2e-3
    assert found["s"] >= letter / (within + ended) - 2e-3
    assert found[" "] > 0
    assert found[" "] <= ended / (within + ended) + 2e-3


def test_behind_a_plural_s_an_apostrophe_ends_the_word():
    folder = Path(__file__).parents[3] / "checkpoints" / "everyday-lstm"
    model = load_checkpoint(folder)
    found = {c.text: c.probability for c in run(next_character(model, "I saw the dogs'"), model)}
    assert found[" "] > 0.5 > found["s"]
    found = {c.text: c.probability for c in run(next_character(model, "I don'"), model)}
    assert found["t"] > 0.9


def test_behind_a_word_comes_a_space_a_mark_or_the_end():
    model = model_of("lstm", "word")
    tokenizer = model.tokenizer
    row = tokenizer.encode_context("the cat sees a room")
    first = np.exp(distributions(model, row)[-2].astype(float))
    behind = np.exp(distributions(model, row)[-1].astype(float))
    joined = np.array([piece.startswith(b"\x01") for piece in tokenizer.pieces])
    longer = np.array([re.match(rb"room.", piece) is not None for piece in tokenizer.pieces])
    word = first[row[-1]]
    finished = word / (word + first[longer].sum())
    found = {
        c.text: c.probability for c in run(next_character(model, "the cat sees a room"), model)
    }
    space = behind[~joined].sum() - behind[tokenizer.eos_id]
    assert found[" "] == pytest.approx(finished * space, rel=1e-4)
    for mark in ".!":
        ids = [i for i, p in enumerate(tokenizer.pieces) if p.startswith(b"\x01" + mark.encode())]
        assert found[mark] == pytest.approx(finished * behind[ids].sum(), rel=1e-4)
    total = sum(found.values()) + finished * behind[tokenizer.eos_id]
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "Hello,", "(", "don'", "e-", "\x01", "a\x010", "我", "🙂", "x" * 80, "</s>"],
)
def test_any_text_has_a_next_character(models: Models, text):
    for model in models.values():
        found = run(next_character(model, text), model)
        assert sum(c.probability for c in found) <= 1 + 1e-6
        assert all(len(c.text) == 1 and c.log_prob <= 1e-9 for c in found)


def test_pages_of_other_origins_are_refused_unless_allowed(client: TestClient, models_dir):
    ask = {"origin": PAGE, "access-control-request-method": "GET"}
    assert "access-control-allow-origin" not in client.get("/health", headers=ask).headers
    assert client.options("/word/predict", headers=ask).status_code == 405
    settings = Settings(models_dir=models_dir, cors_origins=f"{PAGE}/, http://127.0.0.1:3000")
    with TestClient(create_app(settings)) as allowed:
        wait_until_ready(allowed)
        answer = allowed.get("/word/predict", headers=ask)
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.json()["words"]
        assert answer.headers["x-request-id"]
        preflight = allowed.options(
            "/v1/completions", headers=ask | {"access-control-request-method": "POST"} | SENT
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        granted = preflight.headers["access-control-allow-headers"].lower()
        assert {*re.split(", *", granted)} == {*SENT["access-control-request-headers"].split(",")}
        assert "access-control-allow-credentials" not in preflight.headers
        stranger = ask | SENT | {"origin": "https://other.example"}
        refused = allowed.options("/v1/completions", headers=stranger)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        other = allowed.get("/word/predict", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
    with TestClient(create_app(Settings(models_dir=models_dir, cors_origins="*"))) as anybody:
        answer = anybody.get("/health", headers={"origin": "https://other.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
