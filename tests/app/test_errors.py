"""Every error is a problem with its status, and none repeats what was sent."""

import json
import random

import orjson
import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import SUBWORD, WORD

SECRET = "Zx9secretQw"
QUESTIONS = ["/next-word", "/score", "/rank", "/generate", "/tokenize", "/detokenize"]
JSON = {"content-type": "application/json"}


def post(client: TestClient, path: str, body: bytes | dict, headers: dict[str, str] = JSON):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers=headers)


def check_problem(response, status: int, *fields: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "detail", "errors", "request_id"}
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert sorted(error["field"] for error in problem["errors"]) == sorted(fields)
    assert all(error["message"] for error in problem["errors"])
    assert SECRET not in response.text
    return problem


BROKEN = {
    "empty": b"",
    "no JSON": SECRET.encode(),
    "NaN": b'{"text": "a", "temperature": NaN}',
    "Infinity": b'{"text": "a", "temperature": -Infinity}',
    "beyond floats": b'{"text": "a", "temperature": 1e999}',
    "5000 digits": b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}",
    "deep lists": b'{"text": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "deep objects": b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "lone surrogate": b'{"text": "' + SECRET.encode() + b'\\ud800"}',
    "lone surrogate in a wrong field": b'{"text": "a", "top_k": "\\udc00"}',
    "lone surrogate as a key": b'{"text": "a", "\\ud800": 1}',
    "no UTF-8": b'{"text": "\xff\xfe"}',
    "overlong UTF-8": b'{"text": "\xc0\x80"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "cut short": b'{"text": "' + SECRET.encode(),
    "two values": b'{"text": "a"}{"text": "b"}',
    "control character": b'{"text": "a\nb"}',
    "byte order mark": b'\xef\xbb\xbf{"text": "a"}',
}


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_not_json_in_unicode_is_400(client, path, body):
    check_problem(post(client, path, body), 400)


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"1", b'"text"', b"true", b"[" * 900 + b"]" * 900]
)
def test_json_that_is_no_object_is_422(client, path, body):
    check_problem(post(client, path, body), 422, "body")


WRONG_FIELDS = [
    ("/next-word", {"text": 1}, ["text"]),
    ("/next-word", {}, ["text"]),
    ("/next-word", {"text": None}, ["text"]),
    ("/next-word", {"text": [SECRET]}, ["text"]),
    ("/next-word", {"text": "", "top_k": 5.0}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": "5"}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": True}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": 0}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": 1001}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": 2**63}, ["top_k"]),
    ("/next-word", {"text": "", "top_k": None}, ["top_k"]),
    ("/next-word", {"text": "", "num_words": 6}, ["num_words"]),
    ("/next-word", {"text": "", "num_words": -(2**63)}, ["num_words"]),
    ("/next-word", {"text": "", "temperature": 0}, ["temperature"]),
    ("/next-word", {"text": "", "temperature": 1e308}, ["temperature"]),
    ("/next-word", {"text": "", "temperature": False}, ["temperature"]),
    ("/next-word", {"text": "", "temperature": "1"}, ["temperature"]),
    ("/next-word", {"text": "", "words_only": 1}, ["words_only"]),
    ("/next-word", {"text": "", "words_only": "false"}, ["words_only"]),
    ("/next-word", {"text": "", "prefix": f"{SECRET} b"}, ["prefix"]),
    ("/next-word", {"text": "", "prefix": "a" * 65}, ["prefix"]),
    ("/next-word", {"text": "", "candidates": ["a", SECRET, 3]}, ["candidates.2"]),
    ("/next-word", {"text": "", "candidates": [""]}, ["candidates"]),
    ("/next-word", {"text": "", "candidates": ["a"] * 1001}, ["candidates"]),
    ("/next-word", {"text": "", "exclude": "word"}, ["exclude"]),
    ("/next-word", {"text": "", "model": 3}, ["model"]),
    ("/next-word", {"text": "", "model": "m" * 256}, ["model"]),
    ("/next-word", {"text": "", "topk": SECRET}, ["topk"]),
    ("/next-word", {"text": SECRET * 200}, ["text"]),
    ("/score", {"text": []}, ["text"]),
    ("/score", {"text": ["a", None, SECRET]}, ["text.1"]),
    ("/score", {"text": {"a": SECRET}}, ["text"]),
    ("/score", {"text": ["a", SECRET * 200]}, ["text.1"]),
    ("/score", {"text": ["a"] * 257}, ["text"]),
    ("/score", {"text": "", "bos": 0, "eos": None, "tokens": "yes"}, ["bos", "eos", "tokens"]),
    ("/rank", {"candidates": []}, ["candidates"]),
    ("/rank", {"candidates": [SECRET]}, ["candidates.0"]),
    ("/rank", {"candidates": [{"text": "a"}, {"score": 1}]}, ["candidates.1.text"]),
    ("/rank", {"candidates": [{"text": "a", "score": 1e7}]}, ["candidates.0.score"]),
    ("/rank", {"candidates": [{"text": "a", "weight": 1}]}, ["candidates.0.weight"]),
    ("/rank", {"candidates": [{"text": SECRET * 200}]}, ["candidates.0.text"]),
    ("/rank", {"candidates": [{"text": "a"}], "normalize": SECRET}, ["normalize"]),
    ("/rank", {"candidates": [{"text": "a"}], "lm_weight": 1e300}, ["lm_weight"]),
    ("/rank", {"candidates": [{"text": "a"}], "length_bonus": "0"}, ["length_bonus"]),
    ("/generate", {"text": "", "max_tokens": 0}, ["max_tokens"]),
    ("/generate", {"text": "", "max_tokens": 1025}, ["max_tokens"]),
    ("/generate", {"text": "", "strategy": SECRET}, ["strategy"]),
    ("/generate", {"text": "", "temperature": -0.1}, ["temperature"]),
    ("/generate", {"text": "", "top_p": 0}, ["top_p"]),
    ("/generate", {"text": "", "top_p": 1.1}, ["top_p"]),
    ("/generate", {"text": "", "min_p": 2}, ["min_p"]),
    ("/generate", {"text": "", "repetition_penalty": 0}, ["repetition_penalty"]),
    ("/generate", {"text": "", "seed": -1}, ["seed"]),
    ("/generate", {"text": "", "seed": 2**63}, ["seed"]),
    ("/generate", {"text": "", "seed": 1.5}, ["seed"]),
    ("/generate", {"text": "", "n": 17}, ["n"]),
    ("/generate", {"text": "", "strategy": "beam", "n": 5, "num_beams": 4}, ["n"]),
    ("/generate", {"text": "", "num_beams": 17}, ["num_beams"]),
    ("/generate", {"text": "", "stop": [""]}, ["stop.0"]),
    ("/generate", {"text": "", "stop": ["."] * 17}, ["stop"]),
    ("/generate", {"text": "", "stop": SECRET}, ["stop"]),
    ("/tokenize", {}, ["text"]),
    ("/tokenize", {"text": SECRET, "prompt": SECRET}, ["text"]),
    ("/detokenize", {"tokens": [-1]}, ["tokens.0"]),
    ("/detokenize", {"tokens": [10**9]}, ["tokens"]),
    ("/detokenize", {"tokens": [1.0]}, ["tokens.0"]),
    ("/detokenize", {"tokens": [True]}, ["tokens.0"]),
    ("/detokenize", {"tokens": [2**64]}, ["tokens.0"]),
]


@pytest.mark.parametrize(("path", "body", "fields"), WRONG_FIELDS)
def test_a_field_out_of_its_bounds_is_422_and_named(client, path, body, fields):
    check_problem(post(client, path, body), 422, *fields)


def test_the_name_of_an_unknown_field_is_cut(client):
    problem = post(client, "/next-word", {"text": "", "x" * 5000: 1}).json()
    assert problem["errors"] == [{"field": "x" * 100, "message": "Unknown field"}]


def test_a_thousand_faults_make_a_short_answer(client):
    response = post(client, "/next-word", {"text": "", "candidates": [SECRET, *[1] * 999]})
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 20


def test_of_a_key_given_twice_the_last_counts(client):
    answer = post(client, "/next-word", b'{"text": 5, "top_k": 3, "text": "a", "top_k": 2}')
    assert len(answer.json()["predictions"]) == 2


@pytest.mark.parametrize("path", QUESTIONS)
def test_an_unknown_model_is_404(client, path):
    bodies = {"/rank": {"candidates": [{"text": SECRET}]}, "/detokenize": {"tokens": [1]}}
    body = bodies.get(path, {"text": SECRET}) | {"model": f"../{SECRET}"}
    problem = check_problem(post(client, path, body), 404)
    assert SUBWORD in problem["detail"]
    assert WORD in problem["detail"]


@pytest.mark.parametrize("path", ["/nothing", "/next-word/", "/models/a/b", "/%FF%00", "//"])
def test_an_unknown_path_is_404(client, path):
    check_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/next-word", "POST"), ("DELETE", "/models", "GET"), ("PUT", "/generate", "POST")],
)
def test_a_method_that_a_path_lacks_is_405_and_says_which_it_has(client, method, path, allowed):
    response = client.request(method, path)
    check_problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("path", QUESTIONS)
def test_a_body_beyond_the_bound_is_413(client, path, chunked):
    body = orjson.dumps({"text": SECRET * 20_000})
    content = (body[i : i + 5000] for i in range(0, len(body), 5000)) if chunked else body
    check_problem(client.post(path, content=content, headers=JSON), 413)


def test_a_content_length_that_lies_is_no_way_around_the_bound(client):
    headers = JSON | {"content-length": "10", "transfer-encoding": "chunked"}
    body = orjson.dumps({"text": "a" * 200_000})
    check_problem(client.post("/score", content=body, headers=headers), 413)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {"content-type": ";"},
        JSON | {"content-encoding": "gzip"},
        JSON | {"content-encoding": "identity"},
    ],
)
@pytest.mark.parametrize("path", QUESTIONS)
def test_what_does_not_say_that_it_is_plain_json_is_415(client, path, headers):
    check_problem(post(client, path, {"text": SECRET}, headers), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken_with_a_charset_and_in_any_case(client, kind):
    assert post(client, "/next-word", {"text": ""}, {"content-type": kind}).status_code == 200


VALUES = [
    *(None, True, 0, -1, 2**31, 2**63 - 1, 2**64, 1e-320, 1e308, -0.0, 0.5, 100, "", SECRET),
    *("\x00", "😀" * 30, "\u202e", [], [[]], {}, {"text": SECRET}, ["a"] * 300, [1, 2], "greedy"),
]


@pytest.mark.parametrize("path", QUESTIONS)
def test_no_value_of_any_field_is_a_500(client, path):
    rng = random.Random(path)
    schema = client.get("/openapi.json").json()
    body_schema = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = body_schema["schema"]["$ref"].rsplit("/", 1)[1]
    fields = schema["components"]["schemas"][name]["properties"]
    good = {"/rank": {"candidates": [{"text": "a"}]}, "/detokenize": {"tokens": [1]}}
    statuses = set()
    for field in fields:
        for value in VALUES:
            body = {"text": "we"} | good.get(path, {}) | {field: value}
            if path in good:
                body.pop("text", None)
            if path == "/generate":
                body.setdefault("max_tokens", 3)
            if rng.random() < 0.3:
                body["model"] = WORD
            response = post(client, path, body)
            assert response.status_code in (200, 404, 422), (body, response.text)
            statuses.add(response.status_code)
    assert statuses >= {200, 422}
