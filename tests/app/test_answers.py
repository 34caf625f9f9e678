"""Everything that is answered is what the published description says, and the other way round."""

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from fastapi.testclient import TestClient

from app.errors import BusyError, DeadlineError
from models.language_model import LanguageModel
from tests.app.conftest import SUBWORD, WORD
from tests.app.json_schema import faults

PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
QUESTIONS = ("/next-word", "/score", "/rank", "/generate")
STREAM = {"text": "we", "max_tokens": 6, "stream": True}
OPEN = {"text": "we", "top_k": 3, "num_words": 3}

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/next-word", {"text": "we", "candidates": ["coffee", "zzz"], "top_k": 3}),
    ("/next-word", {"text": "we", "top_k": None, "model": WORD, "candidates": ["coffee"]}),
    ("/next-word", {"text": "we", "top_k": None, "model": WORD, "words_only": False}),
    ("/next-word", {"text": "we", "candidates": ["zzz"], "model": WORD}),
    ("/next-word", {"text": "we", "candidates": ["coffee"], "exclude": ["coffee"], "top_k": 1}),
    ("/next-word", {"text": "", "prefix": "co", "temperature": 0.5, "words_only": False}),
    ("/next-word", {"text": "coffee " * 20, "model": WORD, "num_words": 2}),
    ("/next-word", OPEN | {"model": SUBWORD}),
    ("/score", {"text": ["we sold coffee", ""], "tokens": True, "model": WORD}),
    ("/score", {"text": "we sold Zurich", "tokens": True, "bos": False, "eos": False}),
    ("/score", {"text": "", "eos": False}),
    ("/score", {"text": "sold Zurich", "context": "we", "tokens": True, "model": WORD}),
    ("/rank", {"candidates": [{"text": "we"}, {"text": "you", "score": 1}]}),
    ("/rank", {"candidates": [{"text": ""}], "normalize": "characters", "context": "we"}),
    ("/generate", {"text": "we", "max_tokens": 4, "log_probs": True, "n": 2}),
    ("/generate", {"text": "we", "max_tokens": 4, "strategy": "beam", "n": 2}),
    ("/generate", {"text": "", "max_tokens": 40, "strategy": "sample", "seed": 1, "stop": ["e"]}),
    ("/generate", STREAM),
    ("/generate", STREAM | {"n": 3, "strategy": "sample", "log_probs": True}),
    ("/tokenize", {"text": "we sold"}),
    ("/tokenize", {"prompt": "we</s>", "model": WORD, "add_special_tokens": False}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
    ("/detokenize", {"tokens": []}),
    ("/tokenizer_info", {}),
    ("/tokenizer_info", {"model": WORD}),
    ("/models", {}),
    ("/models/{name}", {"name": SUBWORD}),
    ("/models/{name}", {"name": WORD}),
    ("/health", {}),
    ("/ready", {}),
]
GOOD = {
    "/next-word": {"text": "we"},
    "/score": {"text": "we"},
    "/rank": {"candidates": [{"text": "we"}]},
    "/generate": {"text": "we", "max_tokens": 2},
    "/tokenize": {"text": "we"},
    "/detokenize": {"tokens": [1]},
}


@pytest.fixture(scope="module")
def openapi(client: TestClient) -> dict:
    return client.get("/openapi.json").json()


def ask(client: TestClient, path: str, values: dict[str, Any]) -> httpx.Response:
    if path in GOOD:
        return client.post(path, json=values)
    query = {"params": values} if "{name}" not in path else {}
    return client.get(path.format(**values), **query)


def described(
    response: httpx.Response, openapi: dict, path: str
) -> list[tuple[object, dict[str, Any]]]:
    """What was answered, piece by piece, and the schema of each piece."""
    method = response.request.method.lower()
    declared = openapi["paths"][path][method]["responses"][str(response.status_code)]
    assert ("Retry-After" in declared.get("headers", ())) == ("retry-after" in response.headers)
    media_type = response.headers["content-type"].removesuffix("; charset=utf-8")
    schema = declared["content"][media_type]["schema"]
    if media_type != EVENTS:
        return [(orjson.loads(response.content), schema)]
    text = {"type": "object", "required": ["index", "text"]}
    text["properties"] = {"index": {"type": "integer"}, "text": {"type": "string"}}
    schemas = {
        "text": text,
        "done": declared["content"]["application/json"]["schema"],
        "error": {"$ref": "#/components/schemas/Problem"},
    }
    assert "type" not in schema  # readers of streams hold every event against it
    assert all(f"`{name}`" in schema["description"] for name in schemas)
    pieces = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        piece = orjson.loads(data.removeprefix("data: "))
        pieces.append((piece, schemas[name.removeprefix("event: ")]))
    return pieces


def check(response: httpx.Response, openapi: dict, path: str) -> None:
    for value, schema in described(response, openapi, path):
        assert faults(value, schema, openapi) == []


@pytest.mark.parametrize(("path", "values"), ASKED)
def test_answers_are_what_the_schema_says(client: TestClient, openapi, path, values):
    response = ask(client, path, values)
    assert response.status_code == 200
    check(response, openapi, path)


def nullable(schema: dict, openapi: dict) -> dict[str, dict]:
    """The properties of an object that may be null."""
    return {
        name: described
        for name, described in schema.get("properties", {}).items()
        if {"type": "null"} in described.get("anyOf", ())
    }


def nulls(value: Any, schema: dict, openapi: dict) -> set[tuple[str, str, bool]]:
    """Which properties that may be null were, and which were not."""
    found: set[tuple[str, str, bool]] = set()
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        target = openapi["components"]["schemas"][name]
        for key in nullable(target, openapi):
            found.add((name, key, value[key] is None))
        return found | nulls(value, target, openapi)
    for option in schema.get("anyOf", ()):
        if value is not None and option != {"type": "null"}:
            found |= nulls(value, option, openapi)
    if isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            found |= nulls(value[key], part, openapi)
    if isinstance(value, list):
        for item in value:
            found |= nulls(item, schema.get("items", {}), openapi)
    return found


# Held against clients that others wrote, and line by line, in tests of their own.
ELSEWHERE = ("Bulk", "Completion", "OpenAI")


def test_every_part_that_may_be_missing_was_seen_with_and_without(client: TestClient, openapi):
    seen: set[tuple[str, str, bool]] = set()
    for path, values in ASKED:
        for value, schema in described(ask(client, path, values), openapi, path):
            seen |= nulls(value, schema, openapi)
    wanted = {
        (name, key, null)
        for name, schema in openapi["components"]["schemas"].items()
        if not name.endswith("Request") and name not in ("RankCandidate", "StreamOptions")
        if not name.startswith(ELSEWHERE)
        for key in nullable(schema, openapi)
        for null in (True, False)
    }
    assert wanted
    assert seen == wanted


def raising(error: Exception) -> Callable[..., Any]:
    async def run(*_: object, **__: object) -> None:
        raise error

    return run


def fail(client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(type(client.app.state.driver), "run", raising(error))


def provoke(client: TestClient, path: str, status: int, monkeypatch) -> httpx.Response:
    """Get an answer of this status."""
    headers = {"content-type": "application/json"}
    match path, status:
        case "/models/{name}" | "/tokenizer_info", 404 | 422:
            name = "nobody" if status == 404 else "m" * 256
            return ask(client, path, {"name": name} if "{name}" in path else {"model": name})
        case _, 400:
            return client.post(path, content=b"{", headers=headers)
        case _, 404:
            return client.post(path, json=GOOD[path] | {"model": "nobody"})
        case _, 413:
            return client.post(path, content=b" " * 200_000, headers=headers)
        case _, 415:
            return client.post(path, content=b"{}", headers={"content-type": "text/plain"})
        case _, 422:
            return client.post(path, json={"zz": 1})
        case _, 429:
            fail(client, monkeypatch, BusyError("The queue is full.", retry_after=3))
            return client.post(path, json=GOOD[path])
        case _, 503:
            monkeypatch.setattr(client.app.state.registry, "_fault", "Not now.")
            return ask(client, path, GOOD.get(path, {"name": "any"} if "{name}" in path else {}))
    raise AssertionError(f"{path} declares {status}, and nothing here provokes it")


@pytest.mark.parametrize("path", sorted({path for path, _ in ASKED}))
def test_every_declared_status_can_come(client: TestClient, openapi, path):
    (operation,) = openapi["paths"][path].values()
    for status in map(int, operation["responses"].keys() - {"200"}):
        with pytest.MonkeyPatch.context() as monkeypatch:
            response = provoke(client, path, status, monkeypatch)
        assert response.status_code == status
        check(response, openapi, path)
        if status == 429:
            assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", QUESTIONS)
def test_an_answer_that_takes_too_long_is_503(client: TestClient, openapi, path, stream):
    body = GOOD[path] | ({"stream": stream} if path == "/generate" else {})
    with pytest.MonkeyPatch.context() as monkeypatch:
        fail(client, monkeypatch, DeadlineError("It took too long."))
        response = client.post(path, json=body)
    assert response.status_code == 503
    check(response, openapi, path)


@pytest.mark.parametrize(
    ("error", "status"),
    [(DeadlineError("It took too long."), 503), (MemoryError("SECRET"), 500)],
)
def test_a_stream_that_ends_early_says_why(client: TestClient, openapi, error, status):
    def answer(model, query, on_text):
        on_text(0, " word")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("app.routes.questions.generate_answer", answer)
        fail(client, monkeypatch, error)
        response = client.post("/generate", json=STREAM)
    pieces = described(response, openapi, "/generate")
    check(response, openapi, "/generate")
    assert pieces[0][0] == {"index": 0, "text": " word"}
    assert pieces[-1][0]["status"] == status
    assert pieces[-1][0]["request_id"] == response.headers["x-request-id"]
    assert "SECRET" not in response.text


@pytest.mark.parametrize(
    ("path", "body", "items"),
    [
        ("/next-word", {"text": "we", "top_k": 50}, 1),
        ("/score", {"text": "we"}, 1),
        ("/score", {"text": ["we", "you", ""]}, 3),
        ("/rank", {"candidates": [{"text": "we"}, {"text": "you"}]}, 2),
        ("/generate", {"text": "we", "n": 5, "strategy": "sample"}, 5),
        ("/generate", {"text": "we", "n": 2, "num_beams": 7, "strategy": "beam"}, 7),
        ("/generate", {"text": "we", "n": 2, "num_beams": 7, "stream": True}, 2),
    ],
)
def test_the_driver_hears_how_much_work_it_is_and_who_asks(client, path, body, items):
    heard: list[dict[str, Any]] = []

    async def run(self, model: LanguageModel, program, **options: Any) -> dict[str, Any]:
        program.close()
        heard.append(options)
        return {}

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(type(client.app.state.driver), "run", run)
        client.post(path, json=body)
    assert [options.get("items", 1) for options in heard] == [items]
    assert [options["client"] for options in heard] == ["testclient"]
