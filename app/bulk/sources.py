"""Files of texts, as lines of `/score/bulk`: JSON lines, plain text, Parquet."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

import orjson

from app.bulk.lines import LineSplitter
from models.errors import NextwordError

Format = Literal["jsonl", "parquet", "text"]
STANDARD = "-"  # standard input or output

_PIECE = 1 << 16  # bytes
_COLUMNS = ("id", "text", "context", "bos", "eos", "tokens", "model")


class FileError(NextwordError):
    """A file that cannot be used; the message names it."""


def format_of(path: str) -> Format:
    """Return the format that a file's name speaks of; JSON lines where it speaks of none."""
    match Path(path).suffix:
        case ".parquet":
            return "parquet"
        case ".txt":
            return "text"
        case _:
            return "jsonl"


class Source:
    """The lines of one file.

    Attributes:
        size: Of the file, bytes or rows; None where nobody knows.
        position: How much of it was read.
    """

    def __init__(self, path: str, form: Format, defaults: dict[str, Any], most_bytes: int) -> None:
        """Open nothing yet.

        Args:
            path: The file, or ``-`` for standard input.
            form: What is in it.
            defaults: Fields of every line that does not say otherwise.
            most_bytes: Of one line; what stands behind is dropped, so that it is too long.
        """
        if form == "parquet" and path == STANDARD:
            raise FileError("Parquet is read from a file, not from standard input")
        self._path, self._form, self._defaults = path, form, defaults
        self._most_bytes = most_bytes
        self.size: int | None = None
        self.position = 0

    def lines(self, skip: int) -> Iterator[bytes]:
        """Yield the lines behind the first ``skip`` ones, as JSON where they can be read.

        Raises:
            FileError: It is not of its format, or has fewer lines than were to be skipped.
            OSError: It cannot be read.
        """
        if self._form == "parquet":
            yield from self._parquet(skip)
            return
        make = self._text if self._form == "text" else self._json
        with _opened(self._path) as file:
            if file.seekable():
                self.size = file.seek(0, 2)
                file.seek(0)
            for line in self._split(file):
                if skip:
                    skip -= 1
                else:
                    yield make(line)
        self._check(skip)

    def _check(self, left: int) -> None:
        if left:
            raise FileError(f"{self._path}: has fewer lines than the output that is to go on")

    def _split(self, file: IO[bytes]) -> Iterator[bytes]:
        splitter = LineSplitter(self._most_bytes)
        # What is there now, and not all that is to come: a pipe may be slow.
        while data := file.read1(_PIECE):  # type: ignore[attr-defined]
            self.position += len(data)
            yield from splitter.feed(data)
        yield from splitter.finish()

    def _json(self, line: bytes) -> bytes:
        if not self._defaults:
            return line
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return line
        return orjson.dumps(self._defaults | value) if isinstance(value, dict) else line

    def _text(self, line: bytes) -> bytes:
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            return line  # which is no JSON either, and will be reported
        return orjson.dumps(self._defaults | {"text": text})

    def _parquet(self, skip: int) -> Iterator[bytes]:
        arrow, parquet = _pyarrow()
        try:
            with parquet.ParquetFile(self._path) as file:
                self.size = file.metadata.num_rows
                columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                if "text" not in columns:
                    raise FileError(f"{self._path}: has no column text")
                self._check(max(0, skip - self.size))
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    self.position += batch.num_rows
                    behind = batch.slice(min(skip, batch.num_rows))
                    skip -= batch.num_rows - behind.num_rows
                    for row in rows_of(behind):
                        yield line_of(row, self._defaults)
        except arrow.ArrowException as error:
            raise FileError(f"{self._path}: is no Parquet file: {error}") from None


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of an Arrow table or batch; a string that is no UTF-8 becomes empty bytes."""

    def cell(scalar: Any) -> Any:
        try:
            return scalar.as_py()
        except UnicodeDecodeError:
            return b""

    try:
        yield from table.to_pylist()
    except UnicodeDecodeError:
        names, columns = table.schema.names, table.columns
        for row in range(table.num_rows):
            yield {name: cell(column[row]) for name, column in zip(names, columns, strict=True)}


def line_of(row: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """Return a row of a table as a line of JSON.

    Args:
        row: Its cells by column; None is no cell. One that JSON cannot say (bytes, decimals)
            becomes an object, which no field takes: whoever checks the line will name the field.
        defaults: Cells that it has where it says nothing else.
    """
    given = {name: value for name, value in row.items() if value is not None}
    return orjson.dumps({**defaults, **given}, default=lambda _: {})


def write_parquet(rows: Path, target: Path) -> None:
    """Make a Parquet file of rows of JSON; all of it, or nothing."""
    arrow, parquet = _pyarrow()
    field, number = arrow.field, arrow.float64()
    numbers = ("log_prob", "perplexity", "mean_log_prob", "bits_per_character")
    schema = arrow.schema(
        [
            field("id", arrow.string()),
            field("line", arrow.int64()),
            field("model", arrow.string()),
            *(field(name, number) for name in numbers),
            field("scored_tokens", arrow.int64()),
            field("oov_count", arrow.int64()),
            field("eos_log_prob", number),
            field("words", arrow.string()),
            field("error", arrow.string()),
        ]
    )
    made = target.with_name(target.name + ".new")
    with rows.open("rb") as lines, parquet.ParquetWriter(made, schema) as writer:
        batch: list[dict[str, Any]] = []
        for line in lines:
            row = orjson.loads(line)
            if row["id"] is not None:
                row["id"] = str(row["id"])
            for name in ("words", "error"):  # nested: as JSON
                if row.get(name) is not None:
                    row[name] = orjson.dumps(row[name]).decode()
            batch.append(row)
            if len(batch) == 4096:
                writer.write_batch(arrow.RecordBatch.from_pylist(batch, schema=schema))
                batch = []
        writer.write_batch(arrow.RecordBatch.from_pylist(batch, schema=schema))
    made.replace(target)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise FileError("Parquet needs pyarrow: pip install pyarrow") from None
    return pyarrow, pyarrow.parquet


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if path == STANDARD:
        yield sys.stdin.buffer
    else:
        with open(path, "rb") as file:
            yield file
