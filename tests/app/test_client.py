"""Both clients against a real server, and against scripted ones that misbehave."""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from app import client_fields
from app.client import (
    AsyncClient,
    Client,
    Retries,
    ServiceError,
    TextPiece,
    UnreachableError,
)
from app.client_protocol import EventParser
from app.schemas import requests
from app.schemas.bulk import BulkError, BulkScore
from app.schemas.responses import GenerateResponse
from tests.app.bulk.conftest import service, url  # noqa: F401 - fixtures
from tests.app.conftest import SUBWORD, WORD, sentences

GENERATE: Any = {"strategy": "sample", "seed": 4, "max_tokens": 25, "n": 2, "log_probs": True}
CALLS: list[tuple[str, tuple, dict, str, dict]] = [
    ("next_word", ("we",), {"top_k": 3, "candidates": ["coffee"]}, "/next-word", {"text": "we"}),
    ("score", ("we sold",), {"tokens": True}, "/score", {"text": "we sold"}),
    ("score", (["we", "you"],), {"context": "so"}, "/score", {"text": ["we", "you"]}),
    (
        "rank",
        (["we sold", {"text": "sold we", "score": -1.0}],),
        {"normalize": "tokens"},
        "/rank",
        {"candidates": [{"text": "we sold"}, {"text": "sold we", "score": -1.0}]},
    ),
    ("generate", ("we",), GENERATE, "/generate", {"text": "we"}),
]


def ask_async(url: str, name: str, *arguments: Any, **fields: Any) -> Any:  # noqa: F811
    async def ask() -> Any:
        async with AsyncClient(url) as client:
            return await getattr(client, name)(*arguments, **fields)

    return asyncio.run(ask())


@pytest.mark.parametrize(("name", "arguments", "fields", "path", "body"), CALLS)
def test_answers_are_the_services(url, name, arguments, fields, path, body):  # noqa: F811
    expected = httpx.post(url + path, json={**body, **fields, "model": WORD}).json()
    with Client(url) as client:
        answer = getattr(client, name)(*arguments, **fields, model=WORD)
    assert answer.model_dump() == expected
    assert ask_async(url, name, *arguments, **fields, model=WORD) == answer


def test_the_service_about_itself(url):  # noqa: F811
    with Client(url) as client:
        assert {model.name for model in client.models().models} == {SUBWORD, WORD}
        assert client.model(WORD).architecture == "transformer"
        assert set(client.ready().models) == {SUBWORD, WORD}
        with pytest.raises(ServiceError) as raised:
            client.model("no/body?x=1")
    assert raised.value.status == 404
    assert ask_async(url, "model", WORD).name == WORD
    assert len(ask_async(url, "models").models) == 2
    assert set(ask_async(url, "ready").models) == {SUBWORD, WORD}


@pytest.mark.parametrize(
    ("fields", "schema", "others"),
    [
        (client_fields.NextWordFields, requests.NextWordRequest, {"text"}),
        (client_fields.ScoreFields, requests.ScoreRequest, {"text"}),
        (client_fields.RankFields, requests.RankRequest, {"candidates"}),
        (client_fields.GenerateFields, requests.GenerateRequest, {"text", "stream"}),
    ],
)
def test_every_field_can_be_given(fields, schema, others):
    assert set(get_type_hints(fields)) == set(schema.model_fields) - others


def test_a_stream_is_the_answer_piece_by_piece(url):  # noqa: F811
    with Client(url) as client:
        whole = client.generate("we", **GENERATE)
        *pieces, last = client.stream("we", **GENERATE)
    assert last == whole
    for index, result in enumerate(whole.results):
        texts = [p.text for p in pieces if isinstance(p, TextPiece) and p.index == index]
        assert "".join(texts) == result.text

    async def collect() -> list[TextPiece | GenerateResponse]:
        async with AsyncClient(url) as client:
            return [said async for said in client.stream("we", **GENERATE)]

    *async_pieces, async_last = asyncio.run(collect())
    assert async_last == last
    assert {(p.index, p.text) for p in async_pieces} == {(p.index, p.text) for p in pieces}


def test_a_problem_carries_its_details(url):  # noqa: F811
    with Client(url) as client, pytest.raises(ServiceError) as raised:
        client.next_word("we", top_k=0, temperature=0)
    error = raised.value
    assert (error.status, error.title) == (422, "Unprocessable Entity")
    assert {fault.field for fault in error.errors} == {"top_k", "temperature"}
    assert error.request_id
    assert "top_k: " in str(error)
    with Client(url) as client, pytest.raises(ServiceError, match="404"):
        list(client.stream("we", model="nobody"))


@pytest.mark.parametrize("name", [SUBWORD, WORD])
def test_bulk_rows_are_scores_in_order(url, name):  # noqa: F811
    texts = sentences(400)
    lines: list[Any] = [{"id": i, "text": text, "model": name} for i, text in enumerate(texts)]
    lines[77] = {"id": 77, "txt": "we"}
    with Client(url) as client:
        rows = list(client.score_bulk(iter(lines)))
        assert list(client.score_bulk([])) == []
        scores = client.score(texts[:200], model=name).results
    assert [(row.id, row.line) for row in rows] == [(i, i + 1) for i in range(400)]
    bad = rows[77]
    assert isinstance(bad, BulkError)
    assert bad.error.status == 422
    for i, result in enumerate(scores):
        row = rows[i]
        if i != 77:
            assert isinstance(row, BulkScore)
            assert row.log_prob == result.log_prob

    async def collect(several: Any) -> list[Any]:
        async with AsyncClient(url) as client:
            return [row async for row in client.score_bulk(several)]

    async def arriving() -> Any:
        for line in lines:
            yield line

    for several in (lines, arriving()):
        found = asyncio.run(collect(several))
        assert [row.model_dump(exclude={"error"}) for row in found] == [
            row.model_dump(exclude={"error"}) for row in rows
        ]


def test_a_bulk_line_is_one_line():
    with Client() as client, pytest.raises(ValueError, match="line break"):
        list(client.score_lines([b'{"text":\n"a"}']))


# Scripted services.

STATUS = {"status": "ready", "models": ["m"]}
Script = Iterator[httpx.Response | Exception]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a client waited between tries, without waiting."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("app.client.time.sleep", waited.append)
    monkeypatch.setattr("app.client.asyncio.sleep", sleep)
    random.seed(3)
    return waited


def scripted(*answers: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    script: Script = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        following = next(script)
        if isinstance(following, Exception):
            raise following
        return following

    return answer


def problem(status: int, **headers: str) -> httpx.Response:
    body = {"title": "Busy", "status": status, "detail": "Full.", "errors": [], "request_id": "r"}
    return httpx.Response(
        status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def ready(
    handler: Callable[[httpx.Request], httpx.Response], *, use_async: bool, **options: Any
) -> Any:
    transport = httpx.MockTransport(handler)
    if not use_async:
        with Client(transport=transport, **options) as client:
            return client.ready()

    async def ask() -> Any:
        async with AsyncClient(transport=transport, **options) as client:
            return await client.ready()

    return asyncio.run(ask())


both = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


@both
def test_it_waits_as_long_as_it_is_told_and_not_much_longer(waits, use_async):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    script = scripted(
        problem(429, retry_after="7"),
        problem(503, retry_after=soon),
        problem(503),
        httpx.ConnectError("refused"),
        httpx.Response(200, json=STATUS),
    )
    assert ready(script, use_async=use_async).models == ["m"]
    assert 7 <= waits[0] <= 7 * 1.25
    assert 7 <= waits[1] <= 9 * 1.25
    assert 1 <= waits[2] <= 1.25
    assert 2 <= waits[3] <= 2.5


@both
def test_tries_are_bounded(waits, use_async):
    script = scripted(*[problem(503) for _ in range(3)])
    with pytest.raises(ServiceError, match="503 Busy: Full") as raised:
        ready(script, use_async=use_async, retries=Retries(most=2))
    assert len(waits) == 2
    assert raised.value.retry_after is None


@both
def test_who_is_sent_away_for_long_is_told(waits, use_async):
    with pytest.raises(ServiceError) as raised:
        ready(scripted(problem(429, retry_after="3600")), use_async=use_async)
    assert raised.value.retry_after == 3600
    assert waits == []


@both
@pytest.mark.parametrize(
    "answer",
    [
        problem(401),
        problem(500),
        httpx.Response(502, text="<html>"),
        httpx.Response(400, json=[1]),
        httpx.Response(404, json={"errors": [3], "title": None}),
        httpx.Response(599, json={"errors": 3}),
    ],
    ids=lambda answer: str(answer.status_code),
)
def test_what_will_not_change_is_not_asked_again(waits, use_async, answer):
    with pytest.raises(ServiceError) as raised:
        ready(
            scripted(httpx.Response(answer.status_code, content=answer.content)),
            use_async=use_async,
        )
    assert raised.value.status == answer.status_code
    assert str(raised.value).startswith(str(answer.status_code))
    assert waits == []


@both
def test_something_else_than_the_service_is_an_error(waits, use_async):
    with pytest.raises(UnreachableError, match="not answered by this service"):
        ready(scripted(httpx.Response(200, text="hello")), use_async=use_async)
    with pytest.raises(UnreachableError, match="did not answer in time"):
        ready(scripted(httpx.ReadTimeout("slow")), use_async=use_async)
    assert waits == []


def test_nobody_there_is_an_error_after_all_tries(waits):
    with (
        Client("http://127.0.0.1:9", retries=Retries(most=3)) as client,
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached"),
    ):
        client.ready()
    assert len(waits) == 3


@both
def test_the_key_is_a_bearer_token(use_async):
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json=STATUS)

    ready(answer, use_async=use_async, api_key="k")
    ready(answer, use_async=use_async)
    assert seen == ["Bearer k", None]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b'event: error\ndata: {"status": 503, "title": "Busy"}\n\n', ServiceError, "503 Busy"),
        (b'event: text\ndata: {"index": 0, "text": "a"}\n\n', UnreachableError, "ended before"),
        (b"event: done\ndata: {}\n\n", UnreachableError, "cannot be read"),
        (b"event: text\ndata: no\n\n", UnreachableError, "cannot be read"),
    ],
)
def test_a_stream_that_breaks_is_an_error(body, error, message):
    script = scripted(httpx.Response(200, content=body), httpx.Response(200, content=body))
    transport = httpx.MockTransport(script)
    with Client(transport=transport) as client, pytest.raises(error, match=message):
        list(client.stream("a"))

    async def collect() -> None:
        async with AsyncClient(transport=transport) as client:
            async for _ in client.stream("a"):
                pass

    with pytest.raises(error, match=message):
        asyncio.run(collect())


def test_events_are_read_as_the_standard_says():
    parser = EventParser()
    lines = [
        ": hello",
        "event:text",
        "data:a",
        "data: b",
        "id: 3",
        "",
        "",
        "event: x",
        "",
        "data: c",
        "",
    ]
    events = [event for line in lines if (event := parser.feed(line))]
    assert events == [("text", "a\nb"), ("message", "c")]


def rows_of(request: httpx.Request, *, busy: Callable[[dict], bool]) -> list[dict]:
    lines = [json.loads(line) for line in request.content.splitlines()]
    return [
        {"id": line["id"], "line": i + 1}
        | ({"error": {"status": 503, "title": "Slow"}} if busy(line) else {"log_prob": -1.0})
        for i, line in enumerate(lines)
    ]


def test_rows_that_failed_for_now_and_rows_that_were_lost_are_asked_for_again(waits):
    asked: list[list[int]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        rows = rows_of(request, busy=lambda line: len(asked) == 0 and line["id"] % 2 == 1)
        asked.append([row["id"] for row in rows])
        kept = rows[:1] if len(asked) == 2 else rows
        return httpx.Response(200, content="".join(json.dumps(row) + "\n" for row in kept))

    with Client(transport=httpx.MockTransport(answer)) as client:
        lines = [json.dumps({"id": i, "text": "a"}).encode() for i in range(6)]
        rows = [json.loads(row) for row in client.score_lines(lines)]
    assert rows == [{"id": i, "line": i + 1, "log_prob": -1.0} for i in range(6)]
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 3, 5], [1, 3, 5]]
    assert len(waits) == 2


def test_rows_that_never_come_are_an_error(waits):
    def answer(request: httpx.Request) -> httpx.Response:
        rows = rows_of(request, busy=lambda line: line["id"] == 2)
        return httpx.Response(200, content="".join(json.dumps(row) + "\n" for row in rows))

    lines = [{"id": i, "text": "a"} for i in range(6)]
    with (
        Client(transport=httpx.MockTransport(answer)) as client,
        pytest.raises(ServiceError, match="503 Slow"),
    ):
        list(client.score_bulk(lines))
    assert len(waits) == 4


def test_the_client_loads_nothing_of_the_server():
    code = (
        "import sys, app.client\n"
        "heavy = {'torch', 'numpy', 'fastapi', 'starlette', 'uvicorn', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_the_documented_example_runs(url, tmp_path: Path):  # noqa: F811
    page = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "texts.txt").write_text("we sold coffee.\nyou\n" + "a" * 20_000)
    code = code.replace("http://127.0.0.1:8000", url)
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert float(lines[0].split()[1]) < 0
    assert "cannot be used" in lines[2]
