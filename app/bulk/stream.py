"""An answer that is written while the request is still being read."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.bulk.lines import LineSplitter
from app.connection import CONNECTION, Connection

MEDIA_TYPE = "application/x-ndjson"

MakeRow = Callable[[int, bytes], Coroutine[Any, Any, bytes]]


class RowStream(Response):
    """One row for every line of the body, in order.

    At most ``window`` lines are read and not answered: who reads the answer slowly, or not at all,
    is not read from either. All work ends when the client goes, and who has all its rows and sends
    nothing more for ``idle_seconds`` is cut off, without an end of the answer.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, make_row: MakeRow, *, window: int, most_bytes: int, idle_seconds: float
    ) -> None:
        """Answer each line by what ``make_row`` returns for its number, from 1, and its bytes."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]  # nobody knows yet
        self._make_row, self._splitter = make_row, LineSplitter(most_bytes)
        self._room = asyncio.Semaphore(window)
        self._rows: deque[asyncio.Task[bytes]] = deque()  # begun and not written
        self._news = asyncio.Event()  # a row was begun, or there will be no more
        self._count, self._whole = 0, False
        self._due = 0  # lines whose rows are not written
        self._idle_seconds = idle_seconds
        self._active = 0.0  # when a byte came or a row went, by the loop's clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and write; returns when the last row is written or the client has gone."""
        connection: Connection | None = scope.get(CONNECTION)
        self._note_activity()
        # Reading begins first, for a client may want to hear `100 Continue` before it sends.
        work = [self._read(receive), self._write(send)]
        if connection is not None:  # a server that shows it: ours
            work.append(self._watch(connection))
        tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(task) for task in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if tasks[1] in done:
                await send({"type": "http.response.body"})
        finally:
            # Their programs have left the engine before anybody thinks that this has ended.
            left: list[asyncio.Task[Any]] = [*tasks, *self._rows]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self, receive: Receive) -> None:
        """Begin a row for each line; returns when the client has gone."""
        while (message := await receive())["type"] != "http.disconnect":
            self._note_activity()
            for line in self._splitter.feed(message.get("body", b"")):
                await self._begin(line)
            if not message.get("more_body", False):
                for line in self._splitter.finish():
                    await self._begin(line)
                self.stop_reading()

    def stop_reading(self) -> None:
        """End behind the rows that have begun, whatever else is sent."""
        self._whole = True
        self._news.set()

    async def _begin(self, line: bytes) -> None:
        await self._room.acquire()
        if self._whole:  # `stop_reading` came first
            return
        self._count += 1
        self._due += 1
        self._rows.append(asyncio.ensure_future(self._make_row(self._count, line)))
        self._news.set()

    async def _write(self, send: Send) -> None:
        """Write rows in their order, as many at once as are there; returns behind the last."""
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while self._rows or not self._whole:
            if not self._rows:
                self._news.clear()
                await self._news.wait()
                continue
            await self._rows[0]
            ready = []
            while self._rows and self._rows[0].done():
                ready.append(self._rows.popleft().result())
            await send({"type": "http.response.body", "body": b"".join(ready), "more_body": True})
            self._note_activity()
            self._due -= len(ready)
            for _ in ready:
                self._room.release()

    def _note_activity(self) -> None:
        self._active = asyncio.get_running_loop().time()

    async def _watch(self, connection: Connection) -> None:
        """Return when the connection is lost, which it is when nothing happens on it.

        As long as no more is read from a client, nothing that it sends says that it has gone.
        """
        loop = asyncio.get_running_loop()
        while not connection.lost.is_set():
            if self._whole or self._due:  # the client waits for us
                self._note_activity()
            left = self._active + self._idle_seconds - loop.time()
            if left <= 0:
                connection.cut_off()
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.lost.wait(), left if left > 0 else None)
