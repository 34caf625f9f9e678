"""Answers as bytes."""

import asyncio

import orjson
import pytest
from fastapi.testclient import TestClient

from app.wire import Answer, long_answer
from models.score import WordScore
from tests.app.conftest import SUBWORD, WORD

WORDS = [WordScore(f"“{i}”", i, i + 3, -i / 7, None, None, oov=False) for i in range(10_000)]


@pytest.mark.parametrize(
    "content",
    [
        {"results": []},
        {"model": 'a "name"', "results": [1, None, "é", float("nan")], "more": {"a": [1]}},
        {"results": WORDS, "empty": {}},
        {"a": 1},
    ],
)
def test_a_long_answer_is_the_same_as_any(content):
    answer = asyncio.run(long_answer(content, "results"))
    assert answer.body == Answer(content).body == orjson.dumps(content)
    assert answer.raw_headers == Answer(content).raw_headers


def test_others_go_on_while_a_long_answer_is_written():
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> int:
        other = asyncio.ensure_future(others())
        await asyncio.sleep(0)
        answer = await long_answer({"results": WORDS}, "results")
        other.cancel()
        return len(answer.body)

    length = asyncio.run(both())
    assert turns >= length // (1 << 16) > 10


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/score", {"text": ["we sold", "coffee"], "tokens": True, "model": SUBWORD}, "results"),
        ("/v1/completions", {"prompt": "we", "n": 2, "logprobs": 1}, "choices"),
        ("/next-word", {"text": "we", "top_k": None, "model": WORD}, "predictions"),
    ],
)
def test_what_may_be_long_is_written_so(client: TestClient, monkeypatch, path, body, name):
    asked = []

    async def watched(content, name):
        asked.append(name)
        return await long_answer(content, name)

    for module in ("questions", "openai"):
        monkeypatch.setattr(f"app.routes.{module}.long_answer", watched)
    monkeypatch.setattr("app.routes.questions._MANY", 20)
    answer = client.post(path, json=body)
    assert answer.status_code == 200
    assert len(answer.json()[name]) > 1
    assert asked == [name]
    assert client.post("/score", json={"text": "we", "tokens": True}).status_code == 200
    assert len(asked) == 1
