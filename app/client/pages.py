"""Long lists of lines, a page of them a request; nothing here waits or sends."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import orjson

from app.client.errors import ClientError, ServiceError, UnreachableError
from app.client.retries import AGAIN
from app.schemas.bulk import BulkError, BulkScore

Line = Mapping[str, Any] | str
Row = BulkScore | BulkError

LINES = {"content-type": "application/x-ndjson"}
PAGES_AT_A_TIME = 2  # the service has one to compute while another is on its way

# The service reads as many lines of a stream as these before it waits for an answer to be taken:
# a page may be written whole before anything is read.
_PAGE_LINES = 128
_PAGE_BYTES = 1 << 19


class Page:
    """Some lines of a long list, and their rows as far as they are there."""

    def __init__(self, first: int, lines: list[bytes]) -> None:
        """Begin with the line of this number, from 1."""
        self._first, self._lines = first, lines
        self._rows: dict[int, bytes] = {}  # by place in the page

    def body(self) -> bytes:
        """Return the lines that have no row yet."""
        return b"".join(line + b"\n" for _, line in self._open())

    def take(self, answer: bytes, broken: ClientError | None = None) -> ClientError | None:
        """Keep the rows that are there; return what stands in the way of the others.

        Args:
            answer: Rows in the order of their lines: of one that broke off, the first ones, of
                which the last may not be whole.
            broken: Why it broke off, if it did.
        """
        asked, rows = self._open(), answer.split(b"\n")[:-1]
        busy = None
        for number, ((place, _), row) in enumerate(zip(asked, rows, strict=False), start=1):
            try:
                content = orjson.loads(row)
                error = content.get("error")
                status = None if error is None else int(error["status"])
                if content["line"] != number:
                    raise ValueError
            except (ValueError, TypeError, KeyError, AttributeError):
                return UnreachableError("a row cannot be read", again=False)
            if status in AGAIN:
                busy = ServiceError(status or 0, error)
                continue
            content["line"] = self._first + place
            self._rows[place] = orjson.dumps(content)
        if len(self._rows) == len(self._lines):
            return None
        few = UnreachableError(f"{len(asked)} lines got {len(rows)} rows", again=True)
        return broken or busy or few

    def rows(self) -> list[bytes]:
        """Return the rows, all of which must be there, without line ends."""
        return [self._rows[place] for place in range(len(self._lines))]

    def _open(self) -> list[tuple[int, bytes]]:
        return [(i, line) for i, line in enumerate(self._lines) if i not in self._rows]


class PageCutter:
    """Cuts lines into pages that the service takes whole."""

    def __init__(self, first: int = 1) -> None:
        """Begin with the line of this number."""
        self._first, self._size = first, 0
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> Page | None:
        """Return the page that ends with this line, if one does.

        Raises:
            ValueError: The line contains a line break.
        """
        if b"\n" in line:
            raise ValueError("a line must not contain a line break")
        self._lines.append(line)
        self._size += len(line)
        full = len(self._lines) == _PAGE_LINES or self._size >= _PAGE_BYTES
        return self.finish() if full else None

    def finish(self) -> Page | None:
        """Return the page of the lines that are left, if any are."""
        if not self._lines:
            return None
        page = Page(self._first, self._lines)
        self._first += len(self._lines)
        self._lines, self._size = [], 0
        return page


def named(line: Line) -> Mapping[str, Any]:
    """Return a line with its fields named."""
    return {"text": line} if isinstance(line, str) else line


def dumped(line: Line) -> bytes:
    """Return a line as JSON."""
    return orjson.dumps(named(line))


def row_of(row: bytes) -> Row:
    """Return a row, typed."""
    content = orjson.loads(row)
    return (BulkError if "error" in content else BulkScore).model_validate(content)


def cut(lines: Iterable[bytes], first: int = 1) -> Iterator[Page]:
    """Yield the pages of lines of JSON."""
    cutter = PageCutter(first)
    for line in lines:
        if page := cutter.add(line):
            yield page
    if page := cutter.finish():
        yield page


async def cut_async(lines: Iterable[Line] | AsyncIterable[Line]) -> AsyncIterator[Page]:
    """Yield the pages of lines that may have to be waited for."""
    if isinstance(lines, Iterable):
        for full in cut(map(dumped, lines)):
            yield full
        return
    cutter = PageCutter()
    async for line in lines:
        if page := cutter.add(dumped(line)):
            yield page
    if page := cutter.finish():
        yield page
