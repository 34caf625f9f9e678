"""What a user writes is in answers to that user, and nowhere else: no log, no metric, no error."""

import asyncio

import orjson
import pytest
import structlog
from fastapi.testclient import TestClient

from app.application import create_app
from app.keys import new_key
from app.settings import Settings
from tests.app.conftest import wait_until_ready
from tests.app.hostile.bodies import CANARY, GOOD, OTHER_FORMS

JSON = {"content-type": "application/json"}


def with_canary(value: object) -> object:
    """The same value with the canary in each of its strings."""
    match value:
        case str():
            return f"{value} {CANARY}"
        case list():
            return [with_canary(inner) for inner in value]
        case dict():
            return {name: with_canary(inner) for name, inner in value.items()}
    return value


def everywhere(client: TestClient, headers: dict[str, str]) -> list:
    """Ask every operation with the canary in every place, well and wrongly."""
    answers = []
    operations = client.app.openapi()["paths"]
    for path, item in operations.items():
        for method in item:
            url = path.replace("{name}", CANARY)
            if method == "get":
                answers.append(client.get(f"{url}?q={CANARY}&model={CANARY}", headers=headers))
                continue
            good = (GOOD | OTHER_FORMS)[path]
            wrong = [
                {name: {CANARY: CANARY} for name in good},
                dict.fromkeys(good, CANARY),
                good | {"model": CANARY},
            ]
            bodies = [orjson.dumps(body) for body in (with_canary(good), *wrong)]
            bodies += [CANARY.encode(), b'{"text": "' + CANARY.encode() + b'\\ud800"}']
            bodies.append(orjson.dumps({"text": CANARY * 200_000}))
            for body in bodies:
                answers.append(client.post(path, content=body, headers=JSON | headers))
            kinds = {"content-type": f"text/{CANARY}", "content-encoding": CANARY}
            answers.append(client.post(path, content=CANARY, headers=headers | kinds))
            answers.append(client.request(CANARY.upper(), path, headers=headers))
    answers.append(client.get(f"/{CANARY}", headers=headers))
    return answers


@pytest.mark.parametrize("keyed", [False, True])
def test_the_canary_is_not_heard(models_dir, caplog, keyed):
    key, stored = new_key("phone")
    bounds = {"api_keys": stored.line(), "allowed_hosts": "testserver"} if keyed else {}
    with TestClient(create_app(Settings(models_dir=models_dir, **bounds))) as client:
        wait_until_ready(client)
        headers = {"x-request-id": f"{CANARY} {CANARY}", "user-agent": CANARY, "referer": CANARY}
        headers |= {"cookie": CANARY, "x-forwarded-for": CANARY, "x-forwarded-host": CANARY}
        given = {"x-api-key": key} if keyed else {}
        with structlog.testing.capture_logs() as lines:
            answers = everywhere(client, headers | given)
            if keyed:
                answers += everywhere(client, headers | {"authorization": f"Bearer {CANARY}"})
                answers.append(client.get("/models", headers=given | {"host": f"{CANARY}.com"}))
        metrics = client.get("/metrics", headers=given).text
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {200, 400, 404, 405, 413, 415, 422} | ({401, 421} if keyed else set())
    assert not any(status >= 500 for status in statuses)
    for answer in answers:
        assert CANARY not in str(answer.headers)
        if answer.status_code >= 400:
            assert CANARY.lower() not in answer.text.lower()
    assert CANARY.lower() not in metrics.lower()
    # The client's own log, which is not the service's, is left out.
    others = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    log = str(lines) + str(others)
    assert len([line for line in lines if line["event"] == "request"]) == len(answers)
    assert CANARY.lower() not in log.lower()
    assert key not in log + metrics


@pytest.mark.parametrize("path", GOOD)
def test_a_bug_does_not_tell_what_it_was_about(models_dir, monkeypatch, path):
    def buggy(*_: object, **__: object) -> None:
        raise ValueError(f"cannot do {CANARY}")

    with TestClient(create_app(Settings(models_dir=models_dir))) as client:
        wait_until_ready(client)
        for name in ("next_word", "score_all", "rank", "generate"):
            monkeypatch.setattr(f"app.answers.{name}", buggy)
        monkeypatch.setattr(asyncio, "to_thread", buggy)
        with structlog.testing.capture_logs() as lines:
            response = client.post(path, json=with_canary(GOOD[path]))
        monkeypatch.undo()
        assert response.status_code == 500
        assert CANARY not in response.text
    assert [line["event"] for line in lines] == ["bug", "request"]
    assert CANARY not in str(lines)
