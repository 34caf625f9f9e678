"""HTTP as it comes from the socket."""

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.exceptions import HTTPException
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.answer_transport import AnswerTransport
from app.connection import CONNECTION
from app.errors import MEDIA_TYPE, problem

# Of a head or of trailers: of whatever is neither a body nor a whole request.
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class ConnectionBounds:
    """What connections may take up.

    Attributes:
        connections: Open at a time.
        head_seconds: For a head to come, or for the first byte of a new connection.
        body_seconds: For a body, until the answer begins: who answers while it reads, such as a
            stream both ways, knows by itself how long it wants to wait.
        send_seconds: In which a client takes none of what was sent to it.
    """

    connections: int = 1000
    head_seconds: float = 10
    body_seconds: float = 60
    send_seconds: float = 60


class Protocol(HttpToolsProtocol):
    """Uvicorn's fast protocol, without faults that its slow one does not have, and with bounds.

    The faults: it collects a head for as long as one is sent, and it loses the body of a request
    that offers to go on in another protocol, as Java's client does with HTTP/2 by default. The
    bounds: it would wait for ever for clients that begin and do not go on.
    """

    bounds = ConnectionBounds()
    lost: asyncio.Event  # see `Connection`
    leave: Callable[[], None] | None = None
    _answered: RequestResponseCycle | None = None
    _pending = 0  # bytes since the last body or request
    _in_head = _in_body = False
    _stage = 0  # counts the heads and bodies that have begun and ended
    _late: TimerHandle | None = None  # while the client is to send
    _late_stage = 0  # the stage that this is the timer of
    _stuck: TimerHandle | None = None  # while the client is to take what was sent

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Take a new connection, if there is room for one."""
        super().connection_made(transport)
        self.lost = asyncio.Event()
        if len(self.connections) > self.bounds.connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections.")
        else:
            self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.lost.set()
        if self.leave is not None:
            self.leave()
        self._expect_nothing()
        # Uvicorn tells the request that came last, which waits where another is being answered.
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.resume_writing()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        cycle.transport = AnswerTransport(self.transport, cycle, self.loop)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._pending += len(data)
        try:
            self._feed(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._pending > _MOST_BYTES:
                self.send_400_response("The head of the request is too large.")
            elif self._in_head or self._in_body or self._is_idle():
                self._expect_more()
            elif self._late is not None:  # never for a request that comes whole, as most do
                self._expect_nothing()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)

    def _head_without_offer(self) -> bytes:
        """Return the head that has just been read, as if it said nothing of another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise HttpParserError("no proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        """Take the beginning of a request."""
        self._in_head = True
        self._stage += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        if not self.parser.should_upgrade():
            self._in_head, self._in_body = False, True
            self._stage += 1
            # So that an answer without an end can see that nobody takes it any more.
            self.scope[CONNECTION] = self  # type: ignore[literal-required]
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, which routes bound."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        if not self.parser.should_upgrade():
            self._pending = 0
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, or close when the client has taken what is left."""
        super().on_response_complete()
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing was asked for a while."""
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, but not for ever."""
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        """Go on: the client takes what is sent."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def cut_off(self) -> None:
        """Close the connection, whatever is still to be said on it."""
        self.transport.abort()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem, here where there is no request yet, and close."""
        request_id = os.urandom(16).hex()
        body = orjson.dumps(problem(HTTPException(status, detail), request_id))
        lines = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        head = STATUS_LINE[status] + lines % (MEDIA_TYPE.encode(), len(body), request_id.encode())
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            head += b"retry-after: 1\r\n"
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self._close()

    def _close(self) -> None:
        self._expect_nothing()
        self.transport.close()
        self._watch_closing()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_more(self) -> None:
        """Let no more than the allowed time pass until the head or body of now is there."""
        if self._late is not None:
            if self._late_stage == self._stage:
                return
            self._late.cancel()
        seconds = self.bounds.body_seconds if self._in_body else self.bounds.head_seconds
        self._late = self.loop.call_later(seconds, self._is_late)
        self._late_stage = self._stage

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        waiting = self._is_idle() or (self._in_body and not self.cycle.response_started)
        if self.pipeline or not waiting:
            # Something is being answered, and what comes behind it may be held back by that.
            self._expect_more()
        elif self._in_head or (self._in_body and not self.cycle.response_complete):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time.")
        else:
            self._close()

    def _watch_sending(self) -> None:
        if self._stuck is None:
            seconds, left = self.bounds.send_seconds, _untaken(self.transport)
            self._stuck = self.loop.call_later(seconds, self._is_stuck, left)

    def _is_stuck(self, before: int) -> None:
        self._stuck = None
        if _untaken(self.transport) < before:  # slow, but it reads
            self._watch_sending()
        else:
            self.transport.abort()

    def _watch_closing(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_sending()


def _untaken(transport: Transport) -> int:
    """Return how many of the bytes sent are not at the client yet.

    Most of them wait in the kernel, which takes more from us only when a third of its buffer is
    free: megabytes, minutes to a slow client.
    """
    queued = bytes(4)
    with contextlib.suppress(OSError):
        queued = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


def protocol(bounds: ConnectionBounds) -> type[Protocol]:
    """Return the class of connections within these bounds."""
    return type("Protocol", (Protocol,), {"bounds": bounds})
