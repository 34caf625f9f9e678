"""A stream over a connection that stalls, waits or is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.bulk.stream import RowStream
from app.connection import CONNECTION

IDLE = 0.2  # seconds


class Line:
    """A connection, and what goes over it."""

    def __init__(self) -> None:
        self.lost, self.sent, self.cut = asyncio.Event(), [], False
        self._coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said: list[str] = []  # what the stream did, in order

    def cut_off(self) -> None:
        self.cut = True
        self.lost.set()

    def send(self, body: bytes, *, more: bool = True) -> None:
        self._coming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def begin(self, make_row: Callable[[int, bytes], Awaitable[bytes]]) -> asyncio.Task[None]:
        async def receive() -> dict[str, Any]:
            self.said.append("receive")
            return await self._coming.get()

        async def answer(message: dict[str, Any]) -> None:
            self.said.append(message["type"])
            self.sent.append(message)

        stream = RowStream(make_row, window=2, most_bytes=100, idle_seconds=IDLE)
        return asyncio.ensure_future(stream({CONNECTION: self}, receive, answer))

    @property
    def rows(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def ended(self) -> bool:
        return any(m["type"].endswith("body") and not m.get("more_body") for m in self.sent)


async def at_once(number: int, line: bytes) -> bytes:
    return b"%d\n" % number


async def never(number: int, line: bytes) -> bytes:
    await asyncio.sleep(60)
    raise AssertionError


def run(scenario: Callable[[Line], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario(Line())
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(bounded())


def test_who_has_all_rows_and_says_nothing_more_is_cut_off():
    async def scenario(line: Line) -> None:
        call = line.begin(at_once)
        line.send(b"a\nbegun")
        await call
        assert line.cut
        assert line.rows == b"1\n"
        assert not line.ended

    run(scenario)


def test_who_sends_a_byte_now_and_then_or_waits_for_a_row_is_not():
    async def slowly(number: int, line: bytes) -> bytes:
        await asyncio.sleep(2.5 * IDLE)
        return await at_once(number, line)

    async def scenario(line: Line) -> None:
        call = line.begin(slowly)
        for piece in (b"a", b"b", b"c", b"d", b"\n"):
            line.send(piece)
            await asyncio.sleep(IDLE / 2)
        while not line.rows:
            assert not line.cut
            await asyncio.sleep(0.01)
        line.send(b"", more=False)
        await call
        assert not line.cut
        assert line.ended

    run(scenario)


def test_with_a_full_window_a_lost_connection_ends_the_work():
    async def scenario(line: Line) -> None:
        call = line.begin(never)
        line.send(b"a\nb\nc\nd\n")
        await asyncio.sleep(2 * IDLE)
        assert not call.done()
        assert not line.cut
        line.lost.set()
        await call
        assert not line.ended

    run(scenario)


def test_nobody_looks_again_and_again_whether_the_client_is_there(monkeypatch):
    async def scenario(line: Line) -> None:
        call = line.begin(never)
        line.send(b"a\nb\nc\n")
        await asyncio.sleep(0.02)
        steps, loop = 0, asyncio.get_running_loop()
        call_at = loop.call_at

        def count(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal steps
            steps += 1
            return call_at(*arguments, **options)

        monkeypatch.setattr(loop, "call_at", count)
        await asyncio.sleep(2 * IDLE)
        assert steps <= 6  # this wait is one; a few a period are not 50 a second
        line.lost.set()
        await call

    run(scenario)


def test_reading_begins_before_the_answer_does():
    """Or a server has no reason to say `100 Continue`, which some clients wait for."""

    async def scenario(line: Line) -> None:
        call = line.begin(at_once)
        await asyncio.sleep(0.02)  # with no byte of the body there
        assert line.said == ["receive", "http.response.start"]
        line.send(b"a\n", more=False)
        await call
        assert line.rows == b"1\n"
        assert line.ended

    run(scenario)
