"""How an answer is put on its connection."""

import weakref
from asyncio import AbstractEventLoop, Transport

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class AnswerTransport:
    """Sends an answer's head together with the first of its body, if that comes at once.

    Uvicorn writes them one after the other; this spares a system call, and the client wakes up once
    instead of twice.
    """

    def __init__(
        self, transport: Transport, cycle: RequestResponseCycle, loop: AbstractEventLoop
    ) -> None:
        """Stand between a request's ``cycle`` and the connection's ``transport``."""
        self._transport, self._loop = transport, loop
        self._cycle = weakref.proxy(cycle)  # which holds this: no work for the collector
        self._begun = False
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send ``data``, a head a little later."""
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._begun and self._cycle.response_started:
            self._begun, self._head = True, data
            self._loop.call_soon(self._send_head)
            return
        self._transport.write(data)

    def _send_head(self) -> None:
        if self._head and not self._transport.is_closing():
            self.write(b"")

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._send_head()
        self._transport.close()
