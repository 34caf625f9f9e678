"""Every endpoint that takes a body, as the published description lists them, and hostile bodies."""

import json
import time
from collections.abc import Iterator

import orjson
import pytest
from fastapi.testclient import TestClient

from app.application import create_app
from app.settings import Settings
from tests.app.conftest import SUBWORD, WORD, wait_until_ready
from tests.app.hostile.bodies import ANYWHERE, CANARY, DEEP_FAULTS, GOOD, OTHER_FORMS, TEXTS, VALUES

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(models_dir) -> Iterator[TestClient]:
    """The service with the bounds that it has by default."""
    with TestClient(create_app(Settings(models_dir=models_dir))) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="module")
def openapi(client: TestClient) -> dict:
    return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def json_paths(openapi: dict) -> list[str]:
    """The paths that take JSON; a new one is to be added to `GOOD`."""
    paths = [
        path
        for path, item in openapi["paths"].items()
        if "application/json" in item.get("post", {}).get("requestBody", {}).get("content", {})
        if path not in OTHER_FORMS
    ]
    assert paths
    assert set(paths) == GOOD.keys(), "every endpoint needs a request that it takes in GOOD"
    return paths


def fields(openapi: dict, path: str) -> list[str]:
    body = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rsplit("/", 1)[1]
    return list(openapi["components"]["schemas"][name]["properties"])


def check(response, statuses: tuple[int, ...], sent: bytes) -> None:
    """The answer is one of these statuses; a refusal is a short problem that repeats nothing."""
    assert response.status_code in statuses, (sent[:200], response.text[:500])
    assert response.headers["x-content-type-options"] == "nosniff"
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["request_id"] == response.headers["x-request-id"]
        assert len(response.content) < 4000
        assert "passwd" not in response.text


@pytest.mark.parametrize("name", ANYWHERE)
def test_what_no_endpoint_takes(client: TestClient, json_paths, name):
    hostile = ANYWHERE[name]
    for path in json_paths:
        response = client.post(path, content=hostile.body, headers=JSON)
        check(response, hostile.statuses, hostile.body)
        if name != "a long name":  # the name of an unknown field is told, as far as it is short
            assert CANARY not in response.text


@pytest.mark.parametrize("body", [DEEP_FAULTS, ANYWHERE["many names"].body])
def test_fifty_thousand_faults_are_counted_and_not_told(client: TestClient, body):
    response = client.post("/rank", content=body, headers=JSON)
    check(response, (422,), body)
    (error,) = response.json()["errors"]
    assert error["field"] == "body"
    assert error["message"].startswith("5000")


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_in_every_field(client: TestClient, openapi, json_paths, name):
    value, statuses = VALUES[name]
    refused = 0
    for path in json_paths:
        for field in fields(openapi, path):
            good = {key: v for key, v in GOOD[path].items() if key != field}
            body = json.dumps(good)[:-1] + (", " if good else "") + f'"{field}": {value}}}'
            response = client.post(path, content=body.encode(), headers=JSON)
            check(response, statuses, body.encode())
            refused += response.status_code != 200
            if field == "model" and response.status_code == 404:
                assert SUBWORD in response.json()["detail"]
    assert refused >= len(json_paths)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("model", [SUBWORD, WORD])
def test_unusual_texts_are_answered(client: TestClient, json_paths, name, model):
    text = TEXTS[name]
    for path in json_paths:
        body = GOOD[path] | {"model": model}
        match body:
            case {"text": list()}:
                body |= {"text": [text, "we"], "context": text}
            case {"text": _}:
                body |= {"text": text}
            case {"candidates": _}:
                body |= {"candidates": [{"text": text}], "context": text}
        response = client.post(path, content=orjson.dumps(body), headers=JSON)
        check(response, (200,), orjson.dumps(body))
        assert orjson.loads(response.content)


def test_of_duplicate_names_the_last_counts_everywhere(client: TestClient, json_paths):
    for path in json_paths:
        once = json.dumps(GOOD[path])
        twice = "{" + ", ".join(f'"{field}": {{}}' for field in GOOD[path]) + ", " + once[1:]
        answers = [client.post(path, content=b, headers=JSON) for b in (once, twice)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content


@pytest.mark.parametrize("coding", ["gzip", "br", "identity", "deflate, gzip", ""])
def test_every_content_encoding_is_415(client: TestClient, json_paths, coding):
    for path in json_paths:
        headers = JSON | {"content-encoding": coding}
        check(client.post(path, content=json.dumps(GOOD[path]), headers=headers), (415,), b"")


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../tiny-word",
        "%2e%2e%2ftiny-word",
        "..%5c..",
        "%00",
        "tiny-word%00",
        "a" * 300,
        "%ff%fe",
        "C:%5C",
        "~",
        "broken",
        ".hidden",
        "notes.txt",
        "%F0%9F%98%80",
        "tiny-word/..",
    ],
)
def test_a_model_is_what_was_loaded_and_no_path(client: TestClient, name):
    for response in (
        client.get(f"/models/{name}"),
        client.get(f"/tokenizer_info?model={name}"),
    ):
        # A client may resolve ".." itself, and then asks for all models.
        allowed = (404, 422) if ".." not in name else (200, 404, 422)
        check(response, allowed, name.encode())
        assert "config.json" not in response.text


def test_a_word_of_a_megabyte_is_read_where_it_is_allowed(models_dir):
    allowed = {"max_text_characters": 2_000_000, "max_body_bytes": 4_000_000}
    with TestClient(create_app(Settings(models_dir=models_dir, **allowed))) as client:
        wait_until_ready(client)
        for text, words in (("a" * 1_000_000, 1), ("we " * 200_000, 200_000)):
            body = {"text": text, "model": WORD, "add_special_tokens": False}
            assert client.post("/tokenize", json=body).json()["count"] == words
            assert client.post("/tokenize", json=body | {"model": SUBWORD}).status_code == 200


def test_it_is_as_quick_as_before(client: TestClient, json_paths):
    """What is large, deep or many costs what its bytes cost, and leaves nothing behind."""

    def quickest() -> float:
        times = []
        for _ in range(30):
            started = time.perf_counter()
            assert client.post("/next-word", json=GOOD["/next-word"]).status_code == 200
            times.append(time.perf_counter() - started)
        return min(times)

    quickest()
    before = quickest()
    started = time.perf_counter()
    for _ in range(2):
        for hostile in ANYWHERE.values():
            for path in json_paths:
                client.post(path, content=hostile.body, headers=JSON)
    each = (time.perf_counter() - started) / (2 * len(ANYWHERE) * len(json_paths))
    assert each < 0.2
    assert quickest() < 3 * before + 0.005
