"""Continuations piece by piece, and streams that break."""

import asyncio
from typing import Any

import httpx
import orjson
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


SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # lines end here for str.splitlines


def test_a_line_separator_in_a_text_ends_no_line():
    said = orjson.dumps({"index": 0, "text": SEPARATORS})
    assert SEPARATORS[-1].encode() in said
    whole = {"model": "m", "results": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    body = b"event: text\ndata: %b\n\nevent: done\ndata: %b\n\n" % (said, orjson.dumps(whole))
    script = scripted(httpx.Response(200, content=body), httpx.Response(200, content=body))
    transport = httpx.MockTransport(script)
    with Client(transport=transport) as client:
        piece, last = client.stream("a")
    assert piece == TextPiece(0, SEPARATORS)

    async def collect() -> list[TextPiece | GenerateResponse]:
        async with AsyncClient(transport=transport) as client:
            return [said async for said in client.stream("a")]

    assert asyncio.run(collect()) == [piece, last]


LINES = [
    ": hello",
    "event:text",
    "data:a",
    "data: b",
    "id: 3",
    "",
    "",
    "event: x",
    "",
    f"data: c{SEPARATORS}",
    "",
    "data: unfinished",
]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_as_the_standard_says(end, size):
    parser = EventParser()
    data = end.join(LINES).encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    events = [event for piece in [b"", *pieces] for event in parser.feed(piece)]
    assert events == [("text", "a\nb"), ("message", f"c{SEPARATORS}")]
