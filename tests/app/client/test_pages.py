"""Long lists of lines, in pages."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from app.client import (
    AsyncClient,
    BulkError,
    BulkScore,
    Client,
    ServiceError,
    UnreachableError,
)
from tests.app.client.scripted import problem
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


SCORE = {
    "model": "m",
    "log_prob": -1.0,
    "perplexity": 2.0,
    "mean_log_prob": -1.0,
    "bits_per_character": 1.0,
    "scored_tokens": 1,
    "oov_count": 0,
    "eos_log_prob": None,
    "words": None,
}


def rows_of(request: httpx.Request, *, busy: Callable[[dict], bool]) -> list[dict]:
    lines = [json.loads(line) for line in request.content.splitlines()]
    return [
        {"id": line["id"], "line": i + 1}
        | ({"error": {"status": 503, "title": "Slow"}} if busy(line) else SCORE)
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
    assert rows == [{"id": i, "line": i + 1, **SCORE} for i in range(6)]
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 3, 5], [3, 5]]
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


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.RemoteProtocolError("incomplete")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def scores(answer: Callable[[httpx.Request], httpx.Response], *, use_async: bool) -> list[Any]:
    lines = [{"id": i, "text": "a"} for i in range(6)]
    transport = httpx.MockTransport(answer)
    if not use_async:
        with Client(transport=transport) as client:
            return [row.id for row in client.score_bulk(lines)]

    async def collect() -> list[Any]:
        async with AsyncClient(transport=transport) as client:
            return [row.id async for row in client.score_bulk(lines)]

    return asyncio.run(collect())


both = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


@both
@pytest.mark.parametrize("breaks", [False, True], ids=["ends", "breaks"])
def test_the_rows_of_an_answer_that_broke_off_are_kept(waits, use_async, breaks):
    asked: list[list[int]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        rows = rows_of(request, busy=lambda line: False)
        asked.append([row["id"] for row in rows])
        content = b"".join(dumped(row) for row in rows)
        if len(asked) > 1:
            return httpx.Response(200, content=content)
        part = content[: content.index(b'"id": 4') + 3]  # four rows and some of the fifth
        return httpx.Response(200, **({"stream": Broken(part)} if breaks else {"content": part}))

    assert scores(answer, use_async=use_async) == list(range(6))
    assert asked == [[0, 1, 2, 3, 4, 5], [4, 5]]
    assert len(waits) == 1


@both
def test_a_page_has_as_many_tries_as_any_question(waits, use_async):
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked % 2:
            return problem(503)
        rows = rows_of(request, busy=lambda line: True)
        return httpx.Response(200, content=b"".join(map(dumped, rows)))

    with pytest.raises(ServiceError, match="503"):
        scores(answer, use_async=use_async)
    assert asked == 5


def test_who_leaves_early_waits_for_no_page():
    """Neither for one that is being asked for, nor for the next try of one that failed."""
    asking, answered = threading.Event(), threading.Event()
    first = [False, True]

    def answer(request: httpx.Request) -> httpx.Response:
        rows = rows_of(request, busy=lambda line: False)
        if rows[0]["id"] == 0:
            return httpx.Response(200, content=b"".join(map(dumped, rows)))
        if first.pop():
            return problem(503, retry_after="20")
        asking.set()
        assert answered.wait(20)
        return problem(503)

    before = set(threading.enumerate())
    with Client(transport=httpx.MockTransport(answer)) as client:
        rows = client.score_bulk({"id": i, "text": "a"} for i in range(1000))
        assert next(rows).id == 0
        assert asking.wait(20)
        started = time.monotonic()
        del rows
        assert time.monotonic() - started < 5
        answered.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(5)
            assert not thread.is_alive()


def test_a_row_in_the_wrong_place_is_no_row(waits):
    def answer(request: httpx.Request) -> httpx.Response:
        rows = rows_of(request, busy=lambda line: False)
        return httpx.Response(200, content=b"".join(map(dumped, rows[1:])))

    with pytest.raises(UnreachableError, match="cannot be read"):
        scores(answer, use_async=False)


def dumped(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"
