"""Who takes the next connection."""

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvloop

from app.listening import Connections, Listener
from app.siblings import Shared, Siblings
from app.workers import bind


class Greeter(asyncio.Protocol):
    def __init__(self, connections: Connections, name: bytes) -> None:
        self._connections, self._name = connections, name

    def connection_made(self, transport) -> None:
        self._connections.add(self)
        transport.write(self._name)

    def connection_lost(self, error) -> None:
        self._connections.discard(self)


class Worker:
    """One that listens in a thread of its own, where the service has a process."""

    def __init__(self, shared: Shared, index: int, sockets: list[socket.socket]) -> None:
        self._shared, self._index, self._sockets = shared, index, sockets
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._work(),))
        self._serving, self._end = threading.Event(), asyncio.Event()

    async def _work(self) -> None:
        siblings = Siblings(self._shared, self._index)
        connections = Connections(siblings)
        name = str(self._index).encode()
        listener = Listener(
            self._sockets, siblings, connections, lambda: Greeter(connections, name)
        )
        listener.start()
        self._shared.slots.set_alive(self._index, True)
        self._serving.set()
        await self._end.wait()
        await listener.stop()

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def hang(self, seconds: float) -> None:
        hanging = threading.Event()

        def hang() -> None:
            hanging.set()
            time.sleep(seconds)

        self._loop.call_soon_threadsafe(hang)
        assert hanging.wait(10)


@contextmanager
def listening(count: int) -> Iterator[tuple[int, Shared, list[Worker]]]:
    shared, sockets = Shared(count), bind("127.0.0.1", 0)
    workers = [Worker(shared, index, sockets) for index in range(count)]
    with ExitStack() as stack:
        for end in sockets + [end for pair in shared.mailboxes for end in pair]:
            stack.callback(end.close)
        for worker in workers:
            worker.start()
            stack.callback(worker.stop)
        yield sockets[0].getsockname()[1], shared, workers


@contextmanager
def connected(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(count)
        ]


def takers(connections: list[socket.socket]) -> list[int]:
    return [int(connection.recv(1)) for connection in connections]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch):
    """Nobody takes what is another's because that one is slow today."""
    monkeypatch.setattr("app.listening._PATIENCE", 10)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_connections_that_stay_are_shared_out(workers: int):
    with listening(workers) as (port, shared, _):
        taken = []
        with ExitStack() as stack:
            for _ in range(6):
                taken += takers(stack.enter_context(connected(port, 1)))
            assert sorted(taken) == sorted(list(range(workers)) * (6 // workers))
        deadline = time.monotonic() + 10
        while any(map(shared.slots.connections, range(workers))) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [shared.slots.connections(index) for index in range(workers)] == [0] * workers
    # Nobody waits for those that take no more.
    assert all(shared.slots.connections(index) > 10_000 for index in range(workers))


@pytest.mark.usefixtures("patient")
def test_so_are_many_at_once():
    with listening(2) as (port, _, _), connected(port, 400) as connections:
        taken = takers(connections)
        assert 100 <= taken.count(0) <= 300


@pytest.mark.usefixtures("patient")
def test_one_that_leaves_makes_room_for_the_next():
    with listening(2) as (port, shared, _), connected(port, 6) as connections:
        taken = takers(connections)
        gone = [c for c, taker in zip(connections, taken, strict=True) if taker == 1]
        for connection in gone:
            connection.close()
        deadline = time.monotonic() + 10
        while shared.slots.connections(1) and time.monotonic() < deadline:
            time.sleep(0.01)
        with connected(port, 2) as later:
            assert takers(later) == [1, 1]


def test_nobody_waits_for_one_that_hangs():
    with listening(2) as (port, _, workers), connected(port, 2) as first:
        takers(first)
        workers[1].hang(4)
        began = time.monotonic()
        with connected(port, 200) as connections:
            assert takers(connections) == [0] * 200
        for _ in range(200):
            with connected(port, 1) as short:
                assert takers(short) == [0]
        assert time.monotonic() - began < 3


def test_many_at_once_go_to_who_has_few(monkeypatch: pytest.MonkeyPatch):
    with listening(2) as (port, _, workers):
        workers[1].hang(1)
        with connected(port, 80) as first:
            assert takers(first) == [0] * 80
            monkeypatch.setattr("app.listening._PATIENCE", 10)
            time.sleep(1)
            with connected(port, 60) as connections:
                assert takers(connections) == [1] * 60


def test_a_process_out_of_files_tries_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.listening._RETRY", 0.1)
    failures = iter([errno.EMFILE, errno.EMFILE, errno.EPROTO])

    class Exhausted(socket.socket):
        def accept(self):
            for number in failures:
                raise OSError(number, os.strerror(number))
            return super().accept()

    (bound,) = bind("127.0.0.1", 0)
    listener = Exhausted(fileno=bound.detach())
    shared = Shared(1)
    worker = Worker(shared, 0, [listener])
    worker.start()
    try:
        with connected(listener.getsockname()[1], 1) as connections:
            assert takers(connections) == [0]
        assert next(failures, None) is None
    finally:
        worker.stop()
        for end in (listener, *shared.mailboxes[0]):
            end.close()


def test_one_that_cannot_be_set_up_is_closed_and_does_not_count():
    shared, (listener,) = Shared(1), bind("127.0.0.1", 0)

    def fail() -> asyncio.Protocol:
        raise ValueError

    async def serve() -> tuple[bytes, int, int]:
        siblings = Siblings(shared, 0)
        connections = Connections(siblings)
        taking = Listener([listener], siblings, connections, fail)
        taking.start()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        counts = connections.count, shared.slots.connections(0)
        await taking.stop()
        return answer, *counts

    try:
        assert asyncio.run(serve()) == (b"", 0, 0)
    finally:
        for end in (listener, *shared.mailboxes[0]):
            end.close()


def test_those_of_the_dead_do_not_count():
    with listening(3) as (_, shared, _):
        for index, count in enumerate((4, 0, 7)):
            shared.slots.set_connections(index, count)
        siblings = Siblings(shared, 0)
        assert siblings.fewest_connections() == 0
        shared.slots.set_alive(1, False)
        assert siblings.fewest_connections() == 7
        shared.slots.set_alive(2, False)
        assert siblings.fewest_connections() is None
