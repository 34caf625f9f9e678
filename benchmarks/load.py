"""Many clients in one process, as cheap as Python has them: they share the cores with the server.

Each keeps a connection open and sends its next request, which are bytes made before, as soon as
the answer to its last is there.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

R = TypeVar("R")
Check = Callable[[bytes], bool]


class AnswerError(Exception):
    """An answer was not what it has to be."""


@dataclass
class Answers:
    """What came back.

    Attributes:
        latencies: Of each answer, seconds, in the order they came.
        moments: When each came, on the clock of `time.perf_counter`.
        size: Bytes of the bodies in all.
    """

    latencies: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    size: int = 0


class Client(asyncio.Protocol):
    """One connection. Sets ``done`` when its requests are over, or with what was wrong."""

    def __init__(
        self,
        requests: Iterator[bytes],
        check: Check,
        answers: Answers,
        until: float,
        pause: float = 0,
    ) -> None:
        """Prepare to send ``requests``.

        Args:
            requests: Bytes of one request each.
            check: Whether a body is sane.
            answers: To be added to.
            until: No request is sent later, on the clock of `time.perf_counter`.
            pause: Seconds between an answer and the next request.
        """
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests, self._check, self._answers = requests, check, answers
        self._until, self._pause = until, pause
        self._buffer = b""
        self._whole = 0  # bytes of the answer, once its head is there
        self._head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take in a part of an answer, most often all of it."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if not self._whole:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            self._whole = self._head + _content_length(buffer[:end])
        if len(buffer) < self._whole:
            return
        now = time.perf_counter()
        answers = self._answers
        answers.latencies.append(now - self._sent)
        answers.moments.append(now)
        answers.size += self._whole - self._head
        if not (buffer.startswith(b"HTTP/1.1 200 ") and self._check(buffer[self._head :])):
            self._end(AnswerError(buffer[:600].decode(errors="replace")))
            return
        self._buffer, self._whole = b"", 0
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Note a connection that the server closed."""
        self._end(AnswerError(f"the connection was closed ({error})"))

    def _send(self) -> None:
        self._sent = time.perf_counter()
        request = next(self._requests, None) if self._sent < self._until else None
        if request is None:
            self._end()
        elif not self._transport.is_closing():
            self._transport.write(request)

    def _end(self, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AnswerError(f"no content-length: {head.decode(errors='replace')}")


async def clients(
    port: int,
    scripts: Iterable[Iterable[bytes]],
    check: Check,
    *,
    seconds: float = float("inf"),
    patience: float = 120,
    pause: float = 0,
) -> Answers:
    """Let clients go through their scripts, or as far as they get in the given time.

    Args:
        port: Of the server, on this machine.
        scripts: The requests of each client.
        check: Whether the body of an answer is sane.
        seconds: After which no request is sent.
        patience: Seconds after which all must be over.
        pause: Seconds that each client waits between an answer and its next request.

    Raises:
        AnswerError: An answer that is not status 200, or not sane.
        TimeoutError: It took longer than ``patience``.
    """
    loop = asyncio.get_running_loop()
    answers = Answers()
    until = time.perf_counter() + seconds

    async def one(script: Iterable[bytes]) -> None:
        _, client = await loop.create_connection(
            lambda: Client(iter(script), check, answers, until, pause), "127.0.0.1", port
        )
        await client.done

    async with asyncio.timeout(patience):
        async with asyncio.TaskGroup() as group:
            for script in scripts:
                group.create_task(one(script))
    return answers


def run_clients(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on the fastest event loop there is, the collector being asleep."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop as factory
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)
    finally:
        gc.enable()
