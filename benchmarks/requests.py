"""Requests as bytes, made before anything is measured."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from benchmarks.sentences import everyday_sentences
from benchmarks.vocabulary import sentences

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(path: str, body: dict[str, Any]) -> bytes:
    """Return a POST request of a JSON body."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def keystrokes(sentence: str) -> Iterator[tuple[str, str]]:
    """Yield, for nothing and every character typed, the finished words and what is typed behind."""
    for length in range(len(sentence) + 1):
        typed = sentence[:length]
        text, _, prefix = typed.rpartition(" ")
        yield text, prefix


def typing(seed: int, count: int = 12, top_k: int = 5) -> list[bytes]:
    """Return what an application asks while somebody types sentences of everyday English."""
    strokes = chain.from_iterable(map(keystrokes, everyday_sentences(count, seed=seed)))
    return [
        post("/next-word", {"text": text, "prefix": prefix, "top_k": top_k})
        for text, prefix in strokes
    ]


def fresh(seed: int, count: int) -> list[bytes]:
    """Return questions for the next word behind 20 made-up words that never stood together."""
    texts = sentences(count, seed=seed, fewest=20, most=20)
    return [post("/next-word", {"text": text, "top_k": 10}) for text in texts]


def scoring(seed: int, texts: int, count: int) -> list[bytes]:
    """Return requests to score so many sentences of 20 words each."""
    every = sentences(texts * count, seed=seed, fewest=20, most=20)
    return [
        post("/score", {"text": every[start : start + texts]})
        for start in range(0, len(every), texts)
    ]


def continuations(seed: int, tokens: int, count: int) -> list[bytes]:
    """Return requests to continue eight made-up words, greedily."""
    texts = sentences(count, seed=seed, fewest=8, most=8)
    return [post("/generate", {"text": text, "max_tokens": tokens}) for text in texts]
