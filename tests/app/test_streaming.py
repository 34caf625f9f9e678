"""Server-sent events: the same text as without them, word by word."""

import orjson
import pytest
import structlog
from fastapi.testclient import TestClient

from models.language_model import LanguageModel
from tests.app.conftest import SUBWORD, WORD

BODY = {"text": "we sold", "strategy": "sample", "seed": 4, "max_tokens": 25}


def events(text: str) -> list[tuple[str, dict]]:
    """The events of a stream as names and data."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("name", [SUBWORD, WORD])
@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_ends_with_the_answer_that_comes_without_it(client: TestClient, name, n):
    body = BODY | {"model": name, "n": n, "stop": ["coffee"], "log_probs": True}
    whole = client.post("/generate", json=body).json()
    response = client.post("/generate", json=body | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    *words, last = events(response.text)
    assert last == ("done", whole)
    assert {event for event, _ in words} == {"text"}
    assert len(words) > n
    for index, result in enumerate(whole["results"]):
        pieces = [data["text"] for _, data in words if data["index"] == index]
        assert "".join(pieces) == result["text"]
        assert all(len(piece.split()) <= 2 for piece in pieces)


def test_a_stream_with_nothing_to_say_is_the_answer_alone(client: TestClient):
    body = BODY | {"stop": ["a", "e", "i", "o", "u"], "max_tokens": 1, "model": WORD}
    response = client.post("/generate", json=body | {"stream": True})
    assert events(response.text)[-1][0] == "done"


def test_beams_cannot_stream(client: TestClient):
    response = client.post("/generate", json=BODY | {"strategy": "beam", "stream": True})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["stream"]


def test_a_stream_that_cannot_begin_is_a_plain_problem(client: TestClient):
    response = client.post("/generate", json=BODY | {"stream": True, "model": "nobody"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_a_stream_that_breaks_ends_with_an_error_event(client: TestClient, monkeypatch):
    steps = []
    compute = LanguageModel.compute

    def breaking(self: LanguageModel, forwards):
        steps.append(1)
        if len(steps) > 4:
            raise MemoryError("SECRET")
        return compute(self, forwards)

    monkeypatch.setattr(LanguageModel, "compute", breaking)
    with structlog.testing.capture_logs() as lines:
        response = client.post("/generate", json=BODY | {"n": 8, "stream": True})
    *words, (event, problem) = events(response.text)
    assert words
    assert (event, problem["status"]) == ("error", 500)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert lines[0]["event"] == "stream failed"
    assert "SECRET" not in response.text + str(lines)
