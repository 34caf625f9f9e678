"""One HTTP/1.1 connection that takes any answer, streamed ones too, and can hang up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Answer:
    """What a request came to.

    Attributes:
        status: Of HTTP.
        body: All of it.
    """

    status: int
    body: bytes


class Connection:
    """Sends requests one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wrap an open connection; see `open`."""
        self._reader, self._writer = reader, writer
        self._keep = True

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._keep and not self._writer.is_closing() and not self._reader.at_eof()

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its whole answer."""
        status, parts = await self.begin(request)
        return Answer(status, b"".join([part async for part in parts]))

    async def begin(self, request: bytes) -> tuple[int, AsyncIterator[bytes]]:
        """Send a request; return the status and the body's parts as they come."""
        self._writer.write(request)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip().lower()
        self._keep = fields.get("connection") != "close"
        return int(first.split()[1]), self._parts(fields)

    async def _parts(self, fields: dict[str, str]) -> AsyncIterator[bytes]:
        if fields.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readline()).split(b";")[0], 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        elif length := int(fields.get("content-length", "0")):
            yield await self._reader.readexactly(length)

    async def close(self) -> None:
        """Hang up, whatever is under way."""
        self._writer.transport.abort()
        await asyncio.sleep(0)
