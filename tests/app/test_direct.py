"""The short way from a request to its endpoint, and the long one, which answers the same."""

import asyncio
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from app.direct import DirectRoute, DirectRoutes, direct_route
from app.wire import Answer
from tests.app.conftest import SUBWORD

DIRECT = {
    ("POST", "/next-word"),
    ("POST", "/score"),
    ("POST", "/rank"),
    ("POST", "/generate"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
}


class Spy:
    """Stands for FastAPI, and notes what comes to it."""

    def __init__(self, app: Any) -> None:
        self.app, self.paths = app, []

    async def __call__(self, scope, receive, send) -> None:
        self.paths.append((scope["method"], scope["path"]))
        await self.app(scope, receive, send)


@pytest.fixture
def spy(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Spy:
    routes = client.app._front._app
    assert isinstance(routes, DirectRoutes)
    found = Spy(routes._app)
    monkeypatch.setattr(routes, "_app", found)
    return found


def test_the_hot_routes_go_the_short_way(client: TestClient, spy: Spy):
    bulk = ("POST", "/score/bulk")  # reads its body by itself, and takes no plain JSON
    assert client.app._front._app._routes.keys() == DIRECT | {bulk}
    assert client.post("/score/bulk", json={}).status_code == 415
    for method, path in DIRECT:
        body = {"json": {}} if method == "POST" else {}
        assert client.request(method, path, **body).status_code in (200, 400, 422)
    assert spy.paths == []
    assert client.get(f"/models/{SUBWORD}").status_code == 200
    assert client.get("/next-word").status_code == 405
    assert len(spy.paths) == 2


REQUESTS: list[dict[str, Any]] = [
    {"json": {"text": "we", "top_k": 3}},
    {"json": {"text": "we", "zz": 1, "top_k": 0, "candidates": [1]}},
    {"json": [1]},
    {"json": {"text": "we", "model": "nobody"}},
    {"content": b"{", "headers": {"content-type": "application/json"}},
    {"content": b" " * 200_000, "headers": {"content-type": "application/json"}},
    {"content": b"{}", "headers": {"content-type": "text/plain"}},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_behind_a_prefix_the_long_way_answers_the_same(client: TestClient, spy: Spy, request_):
    request_ = request_ | {"headers": {"x-request-id": "one"} | request_.get("headers", {})}
    short = client.post("/next-word", **request_)
    assert spy.paths == []
    behind = TestClient(client.app, root_path="/api")  # not entered: that would start it twice
    long = behind.post("/api/next-word", **request_)
    assert spy.paths == [("POST", "/api/next-word")]
    assert (short.status_code, short.headers, short.content) == (
        long.status_code,
        long.headers,
        long.content,
    )


def test_a_bug_on_the_long_way_is_a_problem_too(client: TestClient, monkeypatch):
    def buggy(*_: object, **__: object) -> None:
        raise ValueError("SECRET")

    monkeypatch.setattr("app.routes.service.model_answer", buggy)
    with structlog.testing.capture_logs() as lines:
        response = client.get(f"/models/{SUBWORD}")
    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert [line["event"] for line in lines] == ["bug", "request"]
    assert "SECRET" not in response.text + str(lines)


def test_an_endpoint_that_needs_more_is_left_to_fastapi():
    app = FastAPI()
    app.router.route_class = direct_route(100)

    @app.get("/by-query")
    async def by_query(request: Request, value: int = 1) -> Response:
        return Answer(value)

    @app.get("/bare")
    async def bare() -> Response:
        return Answer("bare")

    @app.get("/with-request")
    async def with_request(request: Request) -> Response:
        return Answer(request.url.path)

    direct = {r.path: r.direct is not None for r in app.routes if isinstance(r, DirectRoute)}
    assert direct == {"/by-query": False, "/bare": True, "/with-request": True}
    client = TestClient(app)
    assert client.get("/by-query", params={"value": 7}).json() == 7
    assert client.get("/with-request").json() == "/with-request"


def test_a_client_that_goes_while_it_sends_is_answered_by_nobody(client: TestClient):
    sent: list[dict[str, Any]] = []
    messages = [
        {"type": "http.request", "body": b'{"text"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/next-word",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 499
