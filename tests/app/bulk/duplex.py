"""A client that writes a body while it reads the answer, and can stop doing either."""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_PIECE = 1 << 14


class Duplex:
    """One POST of lines over a bare socket, in chunks."""

    def __init__(self, url: str, lines: Iterable[bytes], timeout: float = 60) -> None:
        address = urlsplit(url)
        self.written = 0  # lines that the socket has taken
        self._socket = socket.create_connection((address.hostname, address.port), timeout)
        self._socket.settimeout(timeout)
        self._lines = lines
        head = "POST /score/bulk HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"
        self._socket.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        self._answer = self._socket.makefile("rb", buffering=_PIECE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which wakes a writer that waits
        self._answer.close()
        self._socket.close()
        self._writer.join(20)
        assert not self._writer.is_alive()

    def status(self) -> int:
        """Read the head of the answer."""
        status = int(self._answer.readline().split()[1])
        while self._answer.readline() not in (b"\r\n", b""):
            pass
        return status

    def rows(self) -> Iterator[bytes]:
        """Read the rows, to the end of the answer."""
        begun = b""
        while size := int(self._answer.readline(), 16):
            *whole, begun = (begun + self._answer.read(size)).split(b"\n")
            self._answer.readline()
            yield from whole
        self._answer.readline()
        assert begun == b""

    def _write(self) -> None:
        try:
            waiting, count = bytearray(), 0
            for line in self._lines:
                waiting += line + b"\n"
                count += 1
                if len(waiting) >= _PIECE:
                    self._send(waiting)
                    self.written = count
                    waiting.clear()
            if waiting:
                self._send(waiting)
            self.written = count
            self._socket.sendall(b"0\r\n\r\n")
        except OSError:
            return  # hung up, by us or by the service

    def _send(self, data: bytearray) -> None:
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), bytes(data)))
