"""So much a minute and no more; the right host; proxies believed where that is set."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from app.application import create_app
from app.errors import BusyError, RateLimitedError
from app.keys import new_key
from app.rate_limits import RateLimit
from app.server import Server
from app.settings import Settings
from tests.app.conftest import wait_until_ready

KEY, STORED = new_key("phone")
OTHER, STORED_OTHER = new_key("tablet")


@contextmanager
def service(models_dir, **settings) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(models_dir=models_dir, **settings))) as client:
        wait_until_ready(client)
        yield client


def check_limited(response, most: float = 61) -> int:
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    seconds = int(response.headers["retry-after"])
    assert 1 <= seconds <= most
    return seconds


def test_requests_a_minute_are_counted_for_each_key(models_dir):
    keys = f"{STORED.line()} {STORED_OTHER.line()}"
    with service(models_dir, api_keys=keys, requests_per_minute=3) as client:
        for _ in range(3):
            assert client.get("/models", headers={"x-api-key": KEY}).status_code == 200
        check_limited(client.get("/models", headers={"x-api-key": KEY}))
        assert client.get("/models", headers={"x-api-key": OTHER}).status_code == 200
        assert client.get("/models").status_code == 401
        assert client.get("/health").status_code == 200


def test_the_minute_ends_when_it_is_said_to(models_dir, monkeypatch):
    with service(models_dir, requests_per_minute=1) as client:
        assert client.get("/models").status_code == 200
        seconds = check_limited(client.get("/models"))
        now = time.monotonic()
        monkeypatch.setattr("app.rate_limits.monotonic", lambda: now + seconds - 3)
        check_limited(client.get("/models"))
        monkeypatch.setattr("app.rate_limits.monotonic", lambda: now + seconds + 0.01)
        assert client.get("/models").status_code == 200


def test_a_clock_that_is_set_moves_no_minute(monkeypatch):
    limit = RateLimit(1, "requests")
    limit.spend("a")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    with pytest.raises(RateLimitedError):
        limit.spend("a")


def test_clients_are_forgotten_behind_their_minute(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr("app.rate_limits.monotonic", lambda: now)
    limit = RateLimit(1, "requests")
    for client in range(1000):
        limit.spend(f"early {client}")
    now += 59
    limit.spend("late")
    assert len(limit._windows.windows) == 1001
    now += 2
    limit.spend("last")
    assert len(limit._windows.windows) == 2
    with pytest.raises(RateLimitedError):
        limit.spend("late")


def test_what_a_request_costs_does_not_grow_with_the_clients():
    """Looked up, and not looked through: as many steps for one client as for ten thousand."""

    def steps() -> int:
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            limit.spend("one more")
        finally:
            sys.setprofile(None)
        return counted

    limit = RateLimit(100, "requests")
    limit.spend("one more")
    few = steps()
    for client in range(10_000):
        limit.spend(str(client))
    assert steps() == few


def test_work_that_is_refused_for_a_full_queue_is_not_counted():
    class Full:
        async def run(self, *_: object, **__: object) -> None:
            raise BusyError("full", 1)

    async def scenario() -> None:
        limit = RateLimit(10, "items")
        driver = limit.driver(Full())
        for _ in range(5):
            with pytest.raises(BusyError, match="full"):
                await driver.run(None, None, items=10, client="a")
        limit.spend("a", 10)
        with pytest.raises(RateLimitedError):
            await driver.run(None, None, client="a")

    asyncio.run(scenario())


def test_items_a_minute_are_texts_and_continuations(models_dir):
    with service(models_dir, items_per_minute=10) as client:

        def score(texts: int):
            return client.post("/score", json={"text": ["we"] * texts})

        assert score(6).status_code == 200
        check_limited(score(5))  # and is not counted
        assert score(4).status_code == 200
        for path, body in {
            "/next-word": {"text": "we"},
            "/rank": {"candidates": [{"text": "we"}]},
            "/generate": {"text": "we", "stream": True},
        }.items():
            check_limited(client.post(path, json=body))
        assert client.post("/tokenize", json={"text": "we"}).status_code == 200


def test_candidates_are_items_and_more_of_them_with_a_history(models_dir):
    words, texts = ["we", "book"], [{"text": "we"}, {"text": "book"}]
    for path, body, items in [
        ("/next-word", {"text": "we"}, 1),
        ("/next-word", {"text": "we", "candidates": words}, 2),
        ("/next-word", {"text": "we", "candidates": words, "num_words": 2}, 64),
        ("/rank", {"candidates": texts}, 2),
        ("/rank", {"candidates": texts, "history": "we"}, 8),
        ("/score", {"text": words, "history": "we"}, 8),
    ]:
        with service(models_dir, items_per_minute=100) as client:
            rest = ["we"] * (100 - items)
            assert client.post(path, json=body).status_code == 200
            assert client.post("/score", json={"text": rest}).status_code == 200
            check_limited(client.post("/score", json={"text": "we"}))


def test_a_request_of_more_than_a_minutes_items_takes_them_all(models_dir):
    with service(models_dir, items_per_minute=10) as client:
        assert client.post("/score", json={"text": ["we"] * 50}).status_code == 200
        check_limited(client.post("/score", json={"text": "we"}))


def test_limits_and_hosts_are_declared(models_dir):
    with service(models_dir, requests_per_minute=9, allowed_hosts="testserver") as client:
        for path, item in client.get("/openapi.json").json()["paths"].items():
            for operation in item.values():
                declared = operation["responses"].keys() & {"421", "429"}
                assert declared == (set() if path in ("/health", "/ready") else {"421", "429"})


def test_without_limits_nothing_stands_in_the_way(models_dir):
    with service(models_dir) as client:
        assert type(client.app._front._app).__name__ == "DirectRoutes"
        assert {client.get("/models").status_code for _ in range(50)} == {200}


HOSTS = "Example.com, *.example.org [::1]"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("example.com", 200),
        ("EXAMPLE.com:8000", 200),
        ("a.example.org", 200),
        ("a.b.example.org:1", 200),
        ("[::1]:8000", 200),
        ("example.org", 421),
        ("badexample.org", 421),
        ("example.com.evil.net", 421),
        ("evil.net:example.com", 421),
        ("evil.net", 421),
        ("", 421),
        ("*.example.org", 200),
        ("[::2]", 421),
        ("example.com\u00e9", 421),
    ],
)
def test_only_the_allowed_hosts_are_answered_for(models_dir, host, status):
    with service(models_dir, allowed_hosts=HOSTS) as client:
        response = client.get("/models", headers=[(b"host", host.encode("latin-1"))])
        assert response.status_code == status
        if host and status == 421:
            assert response.headers["content-type"] == "application/problem+json"
            assert host not in response.text
        # Who watches over the service asks by its address.
        assert client.get("/health", headers={"host": "10.0.0.7"}).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "client"),
    [("", "127.0.0.1"), ("127.0.0.1", "9.9.9.9"), ("10.0.0.0/8", "127.0.0.1")],
)
def test_proxies_are_believed_where_that_is_set(models_dir, monkeypatch, trusted, client):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own, which must not count
    server = Server(Settings(models_dir=models_dir, trusted_proxies=trusted))
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["client"][0])

    server.config.app = app
    server.config.load()
    scope = {
        "type": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"9.9.9.9")],
    }
    asyncio.run(server.config.loaded_app(scope, None, None))
    assert seen == [client]
