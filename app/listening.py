"""New connections of a service of several workers: whoever has the fewest takes the next.

The kernel wakes all workers that wait at a socket and gives the connection to the fastest. Where
clients stay for long, that can be the same one again and again, until one worker has everything
to do and the others nothing.
"""

import asyncio
import errno
import select
from collections.abc import Callable, Iterable
from socket import socket
from typing import Any

import structlog

from app.siblings import Siblings

_PATIENCE = 0.01  # seconds for a worker with fewer connections to take the next one
_ABSENCE = 0.5  # seconds for which nothing is left to one who did not take it
_GLANCE = 0.001  # seconds after which one that leaves it to others looks whether they did
_RETRY = 1.0  # seconds until a process that cannot open another file tries again
_FULL = 1 << 32  # connections that nobody ever has
_BACKLOG = 2048  # connections that the kernel keeps until somebody takes them
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = structlog.get_logger()


class Connections(set[Any]):
    """A worker's open connections, whose number its siblings know.

    Those that were taken and are still being set up count, but are not in the set yet.
    """

    def __init__(self, siblings: Siblings) -> None:
        """Have none yet."""
        super().__init__()
        self._siblings = siblings
        self._expected = 0
        self._tell()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self) + self._expected

    def expect(self) -> None:
        """Have one more, which `add` or `miss` will be called for."""
        self._expected += 1
        self._tell()

    def add(self, connection: Any) -> None:
        """Have one that was expected."""
        super().add(connection)
        self._expected -= 1

    def miss(self) -> None:
        """Expect one less: it could not be set up."""
        self._expected -= 1
        self._tell()

    def discard(self, connection: Any) -> None:
        """Have one less, if it was there."""
        super().discard(connection)
        self._tell()

    def close(self) -> None:
        """Take no more: from now on all others have fewer."""
        self._expected += _FULL
        self._tell()

    def _tell(self) -> None:
        self._siblings.tell_connections(self.count)


class Listener:
    """Takes connections from sockets that all workers listen on; lives in an event loop."""

    def __init__(
        self,
        sockets: Iterable[socket],
        siblings: Siblings,
        connections: Connections,
        make: Callable[[], asyncio.Protocol],
    ) -> None:
        """Take nothing yet.

        Args:
            sockets: Bound, and shared with the other workers.
            siblings: Those.
            connections: Of this worker; a protocol adds itself when it is connected, and discards
                itself at its end.
            make: Makes a protocol for a connection.
        """
        self._sockets = list(sockets)
        self._siblings, self._connections, self._make = siblings, connections, make
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: dict[socket, asyncio.TimerHandle] = {}
        # Connections of a sibling that takes no others, and until when that is believed.
        self._absent: tuple[int | None, float] = (None, 0)

    def start(self) -> None:
        """Listen."""
        for listener in self._sockets:
            listener.setblocking(False)
            listener.listen(_BACKLOG)
            self._listen(listener)

    async def stop(self) -> None:
        """Take no more, and set up what was taken; the sockets stay open."""
        self._connections.close()
        for listener in self._sockets:
            self._loop.remove_reader(listener)
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=1)

    def _listen(self, listener: socket) -> None:
        self._waiting.pop(listener, None)
        self._loop.add_reader(listener, self._look, listener)

    def _look(self, listener: socket) -> None:
        """Take a connection, unless others have fewer."""
        if self._is_next():
            self._take(listener)
        else:
            self._loop.remove_reader(listener)
            self._leave(listener, None, 0)

    def _leave(self, listener: socket, fewest: int | None, until: float) -> None:
        """Leave what waits to the others, as long as they take it.

        Args:
            listener: Where it waits.
            fewest: Connections that the sibling with the fewest had when it was last seen to act.
            until: When it will be taken for absent.
        """
        now, fewest_now = self._loop.time(), self._siblings.fewest_connections()
        if fewest_now != fewest:
            fewest, until = fewest_now, now + _PATIENCE
        elif now >= until:
            self._absent = fewest, now + _ABSENCE
        if self._is_next() or not _is_readable(listener):
            self._listen(listener)
        else:
            again = self._loop.call_later(_GLANCE, self._leave, listener, fewest, until)
            self._waiting[listener] = again

    def _is_next(self) -> bool:
        fewest = self._siblings.fewest_connections()
        absent, until = self._absent
        if fewest is None or (fewest == absent and self._loop.time() < until):
            return True
        # Nearly as few will do where there are many: a thousand at once are shared out in no time.
        return self._connections.count <= fewest + fewest // 8

    def _take(self, listener: socket) -> None:
        """Take a connection, if one waits; where the process can take none, pause."""
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # somebody else was faster
            return
        except OSError as error:
            if error.errno in _EXHAUSTED:  # and not the connection's own error
                log.error("no connection can be taken", reason=error.strerror)
                self._loop.remove_reader(listener)
                self._waiting[listener] = self._loop.call_later(_RETRY, self._listen, listener)
            return
        self._connections.expect()
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except Exception as error:
            log.error("a connection could not be set up", error=type(error).__name__)
            connection.close()
            self._connections.miss()


def _is_readable(listener: socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
