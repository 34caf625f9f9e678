"""Long lists of lines, in pages."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, BulkError, BulkScore, Client, ServiceError
from tests.app.conftest import SUBWORD, WORD, sentences


@pytest.mark.parametrize("name", [SUBWORD, WORD])
def test_bulk_rows_are_scores_in_order(url, name):
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
