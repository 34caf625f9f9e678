"""Server-sent events: words as they are generated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import orjson
import structlog
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.answers import JSON, OnText
from app.connection import while_connected
from app.errors import problem

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R")


class EventStream(StreamingResponse):
    """Events of work that ends with the stream, however that ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], work: "asyncio.Future[Any]") -> None:
        """Send ``events``, and no cache or proxy may hold them back."""
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; returns when the last is sent or the client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()


async def stream_text(request: Request, start: Callable[[OnText], Awaitable[JSON]]) -> EventStream:
    """Stream text as ``start`` reports it from any thread, then what ``start`` returns.

    Waits for the first word, so that a request that cannot be answered raises here, before a
    status is sent.
    """

    def start_telling(tell: Callable[[tuple[int, str]], None]) -> Awaitable[JSON]:
        return start(lambda index, text: tell((index, text)))

    async def write(word: tuple[int, str]) -> bytes:
        return _event("text", {"index": word[0], "text": word[1]})

    return await stream_events(
        request,
        start_telling,
        write=write,
        write_end=lambda answer: _event("done", answer),
        write_error=lambda error, request_id: _event("error", problem(error, request_id)),
    )


async def stream_events(
    request: Request,
    start: Callable[[Callable[[T], None]], Awaitable[R]],
    *,
    write: Callable[[T], Awaitable[bytes]],
    write_end: Callable[[R], bytes],
    write_error: Callable[[Exception, str], bytes],
) -> EventStream:
    """Stream what ``start`` tells from any thread, then what it returns or raises.

    Waits for the first thing that is told, so that a request that cannot be answered raises here,
    before a status is sent.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[tuple[T] | None] = asyncio.Queue()

    def tell(thing: T) -> None:
        loop.call_soon_threadsafe(told.put_nowait, (thing,))

    work = asyncio.ensure_future(start(tell))
    work.add_done_callback(lambda _: told.put_nowait(None))
    try:
        first = await while_connected(request, told.get())
        if first is None:
            await work  # raises what went wrong, unless there was simply nothing to say
    except BaseException:
        work.cancel()
        raise

    async def events() -> AsyncIterator[bytes]:
        thing = first
        try:
            while thing is not None:
                yield await write(thing[0])
                thing = await told.get()
            yield write_end(await work)
        except Exception as error:  # the status is sent: all that is left is to say so
            request_id = request.state.request_id
            log.error("stream failed", error=type(error).__name__, request_id=request_id)
            yield write_error(error, request_id)

    return EventStream(events(), work)


def _event(name: str, data: JSON) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))
