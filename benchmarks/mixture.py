"""The requests of an ordinary hour: typing, scoring, writing, people who leave, and mistakes."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from benchmarks.connection import Connection
from benchmarks.requests import keystrokes, post
from benchmarks.sentences import everyday_sentences

Body = Callable[[bytes], bool]


class FailureError(Exception):
    """An answer was not what it has to be."""


@dataclass(frozen=True)
class Task:
    """One request, and what has to come of it.

    Attributes:
        kind: What it stands for.
        request: Its bytes.
        status: That has to come back.
        part: What the answer's body has to hold.
        stay: Seconds after which the client hangs up; None to wait for the answer.
    """

    kind: str
    request: bytes
    status: int = 200
    part: bytes = b""
    stay: float | None = None

    async def run(self, connection: Connection) -> None:
        """Ask, and look at the answer, or hang up before it is there.

        Raises:
            FailureError: It is not as it has to be.
        """
        if self.stay is not None:
            try:
                async with asyncio.timeout(self.stay):
                    await connection.ask(self.request)
            except TimeoutError:
                await connection.close()
            return
        answer = await connection.ask(self.request)
        if answer.status != self.status or self.part not in answer.body:
            found = answer.body[-200:].decode(errors="replace")
            raise FailureError(f"{self.kind}: {answer.status} instead of {self.status}: {found}")


# How often each kind comes, in a hundred.
_SHARES = {
    "typing": 50,
    "fresh": 14,
    "score": 8,
    "rank": 6,
    "generate": 6,
    "stream": 6,
    "abandoned": 4,
    "bad": 6,
}


def tasks(seed: int) -> Iterator[Task]:
    """Yield an endless mixture of requests, everyday English all of them."""
    draw = random.Random(seed)
    strokes = chain.from_iterable(
        keystrokes(everyday_sentences(1, seed=draw.getrandbits(40))[0]) for _ in iter(int, 1)
    )
    kinds, shares = list(_SHARES), list(_SHARES.values())
    while True:
        kind = draw.choices(kinds, shares)[0]
        if kind == "typing":
            text, prefix = next(strokes)
            body = {"text": text, "prefix": prefix, "top_k": 5}
            yield Task(kind, post("/next-word", body), part=b'"predictions"')
        else:
            yield _task(kind, draw)


def _task(kind: str, draw: random.Random) -> Task:
    texts = everyday_sentences(8, seed=draw.getrandbits(40))
    words = texts[0].split()
    begun = " ".join(words[: draw.randint(1, len(words) - 1)])
    writing: dict[str, Any] = {"text": begun, "max_tokens": draw.randint(8, 48)}
    if draw.random() < 0.5:
        writing |= {"strategy": "sample", "top_p": 0.95, "seed": draw.getrandbits(30)}
    match kind:
        case "fresh":
            request = post("/next-word", {"text": " ".join(texts[1:3]) + " " + begun, "top_k": 10})
            return Task(kind, request, part=b'"predictions":[{')
        case "score":
            request = post("/score", {"text": texts, "tokens": draw.random() < 0.3})
            return Task(kind, request, part=b'"perplexity"')
        case "rank":
            return Task(
                kind,
                post("/rank", {"candidates": [{"text": text} for text in texts]}),
                part=b'"probability"',
            )
        case "generate":
            return Task(kind, post("/generate", writing), part=b'"completion_tokens"')
        case "stream":
            return Task(kind, post("/generate", {**writing, "stream": True}), part=b"event: done")
        case "abandoned":
            return abandoned(begun, stay=draw.uniform(0.005, 0.3), stream=draw.random() < 0.5)
    return draw.choice(_BAD)


def abandoned(text: str, *, stay: float, stream: bool) -> Task:
    """Return a long generation whose client hangs up in the middle of it.

    At this temperature hardly ever does a sentence end by itself.
    """
    body = {"text": text, "max_tokens": 1000, "strategy": "sample", "temperature": 5.0}
    return Task("abandoned", post("/generate", body | {"stream": stream}), stay=stay)


def _raw(line: str, content: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


_BAD = (
    Task("bad", post("/next-word", {"text": "Hello", "top_k": 0}), 422, b"top_k"),
    Task("bad", post("/next-word", {"text": "Hello", "surprise": 1}), 422, b"surprise"),
    Task("bad", post("/score", {"text": []}), 422, b"text"),
    Task("bad", post("/generate", {"text": "Hello", "temperature": -1}), 422, b"temperature"),
    Task("bad", post("/score", {"text": "Hello", "model": "nobody"}), 404, b"nobody"[:0]),
    Task("bad", _raw("POST /next-word", b'{"text": "Hel'), 400, b"request_id"),
    Task("bad", _raw("POST /next-word", b"text=Hello", "text/plain"), 415, b"request_id"),
    Task("bad", _raw("GET /next-word"), 405, b"request_id"),
    Task("bad", _raw("GET /nothing"), 404, b"request_id"),
)
