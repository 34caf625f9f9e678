"""Continuations piece by piece, and streams that break."""

import asyncio
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client, ServiceError, TextPiece, UnreachableError
from app.client.events import EventParser
from app.schemas.responses import GenerateResponse
from tests.app.client.scripted import scripted

GENERATE: Any = {"strategy": "sample", "seed": 4, "max_tokens": 25, "n": 2, "log_probs": True}


def test_a_stream_is_the_answer_piece_by_piece(url):
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
