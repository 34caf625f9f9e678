"""Rows in a file that can be gone on with, wherever writing it was broken off."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from app.bulk.sources import STANDARD, FileError

# What the row of an error has, and no other: in texts, ids and names quotes are escaped.
ERROR = b',"error":{'

_PIECE = 1 << 20  # bytes


class Sink:
    """Where rows go, a line each.

    A row is whole when its line end is written, and lines are only ever added: so after whatever
    end, the whole lines of the file are the first rows, each once.

    Attributes:
        count: Rows that were there before.
        faults: How many of them are errors.
    """

    def __init__(self, path: str, *, resume: bool) -> None:
        """Open the file and cut off a row that is not whole.

        Raises:
            FileError: It exists, and is not to be gone on with, or was not written by this.
            OSError: It cannot be written.
        """
        self.count = self.faults = 0
        self._file: BinaryIO
        if path == STANDARD:
            if resume:
                raise FileError("Only a file can be gone on with: --resume needs --output FILE")
            self._file = sys.stdout.buffer
            return
        if Path(path).exists() and not Path(path).is_file():
            if resume:
                raise FileError(f"{path}: is no plain file, which --resume needs")
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed at our exit
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if not resume and self._file.seek(0, os.SEEK_END):
                raise FileError(f"{path}: exists; --resume goes on with it")
            self._cut(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Be closed at the end of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not sys.stdout.buffer:
            self._file.close()

    def write(self, rows: Iterable[bytes]) -> None:
        """Add rows that end in line ends."""
        waiting = memoryview(b"".join(rows))
        while waiting:  # unbuffered files may take a part
            waiting = waiting[self._file.write(waiting) :]
        self._file.flush()

    def _cut(self, path: str) -> None:
        self._file.seek(0)
        position = whole = last = 0  # `last` is where the last whole line begins
        before = b""
        while data := self._file.read(_PIECE):
            searched = before + data
            self.faults += searched.count(ERROR)
            before = searched[1 - len(ERROR) :]  # where one may have begun
            self.count += data.count(b"\n")
            end = data.rfind(b"\n")
            if end >= 0:
                begin = data.rfind(b"\n", 0, end)
                last = position + begin + 1 if begin >= 0 else whole
                whole = position + end + 1
            position += len(data)
        if self.count:
            self._file.seek(last)
            try:
                number = orjson.loads(self._file.read(whole - last))["line"]
            except (ValueError, TypeError, KeyError):
                number = None
            if number != self.count:
                raise FileError(f"{path}: line {self.count} is not the row that belongs there")
        self._file.seek(whole)
        self.faults -= self._file.read(position - whole).count(ERROR)
        self._file.truncate(whole)
        self._file.seek(whole)
