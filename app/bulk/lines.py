"""Bytes as they arrive, as lines."""

from codecs import BOM_UTF8
from collections.abc import Iterator


class LineSplitter:
    r"""Cuts bytes at ``\n`` and holds back no more than one line.

    A byte order mark, with which some programs begin a file, belongs to no line.

    Of a line that is too long, the first ``most + 1`` bytes are kept, so that it is still one
    line, whoever reads it sees that it is too long, and memory stays bounded.
    """

    def __init__(self, most: int) -> None:
        """Keep at most ``most`` bytes of a line and one more."""
        self._most = most
        self._keep = most + 1 + len(BOM_UTF8)
        self._first = True
        self._begun = bytearray()
        self._any = False  # the line has begun, perhaps with no byte yet that is kept

    def feed(self, data: bytes) -> Iterator[bytes]:
        r"""Yield the lines that end in ``data``, without ``\n``."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._add(data, start, end)
            yield self._take()
            start = end + 1
        self._add(data, start, len(data))

    def finish(self) -> Iterator[bytes]:
        r"""Yield what stands behind the last ``\n``, if anything does."""
        if self._any and not (self._first and self._begun == BOM_UTF8):
            yield self._take()

    def _add(self, data: bytes, start: int, end: int) -> None:
        room = self._keep - len(self._begun)
        self._begun += data[start : min(end, start + room)]
        self._any = self._any or end > start

    def _take(self) -> bytes:
        line = bytes(self._begun)
        if self._first:
            line = line.removeprefix(BOM_UTF8)
        self._begun.clear()
        self._first = self._any = False
        return line[: self._most + 1]
