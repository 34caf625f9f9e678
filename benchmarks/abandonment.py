"""What clients that hang up in the middle of long answers leave behind for the next one."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.connection import Connection
from benchmarks.mixture import FailureError, abandoned
from benchmarks.requests import post
from benchmarks.sentences import everyday_sentences

UNDER_WAY = 1.0  # seconds that the long answers are given
SETTLED = 5.0  # seconds after which a server must have forgotten those who left


@dataclass(frozen=True)
class Abandonment:
    """What one request costs before and after.

    Attributes:
        idle: Seconds on the idle server, the median of several requests.
        highest: The highest of them.
        at_once: Seconds right after all clients had gone.
        later: Seconds some time after that, the median of several.
        over: How many of the long answers had ended, or were refused, before.
    """

    idle: float
    highest: float
    at_once: float
    later: float
    over: int


async def abandon(port: int, count: int) -> Abandonment:
    """Start ``count`` long generations, hang up on all of them, and time one request."""
    questions = _questions()
    idle = [await _timed(port, question) for question, _ in zip(questions, range(9), strict=False)]
    connections = [await Connection.open(port) for _ in range(count)]

    async def wait(number: int, connection: Connection) -> None:
        # The whole answer, or the exception that comes of hanging up.
        await connection.ask(abandoned("Once upon a time", stay=0, stream=number % 2 == 0).request)

    waiting = [asyncio.ensure_future(wait(i, c)) for i, c in enumerate(connections)]
    await asyncio.sleep(UNDER_WAY)
    over = sum(answer.done() for answer in waiting)
    for connection in connections:
        await connection.close()
    at_once = await _timed(port, next(questions))
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(SETTLED)
    later = [await _timed(port, question) for question, _ in zip(questions, range(9), strict=False)]
    return Abandonment(
        statistics.median(idle[1:]), max(idle[1:]), at_once, statistics.median(later), over
    )


def _questions() -> Iterator[bytes]:
    """Yield requests of one size, none of which was asked before."""
    for sentence in everyday_sentences(100, seed=5):
        begun = " ".join(sentence.split()[:6])
        yield post("/generate", {"text": begun, "max_tokens": 4, "strategy": "sample", "seed": 1})


async def _timed(port: int, question: bytes) -> float:
    connection = await Connection.open(port)
    began = time.perf_counter()
    answer = await connection.ask(question)
    seconds = time.perf_counter() - began
    await connection.close()
    if answer.status != 200:
        raise FailureError(f"{answer.status}: {answer.body[:200].decode(errors='replace')}")
    return seconds
