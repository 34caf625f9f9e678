"""``nextword score --input``: a file of texts, a row for every line."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from app.bulk.sink import ERROR, Sink
from app.bulk.sources import STANDARD, FileError, Format, Source, format_of, write_parquet

if TYPE_CHECKING:
    from app.client import Client
    from app.schemas.requests import ScoreRequest
    from app.settings import Settings
    from models.language_model import LanguageModel

Rows = Callable[[Iterable[bytes], int], Iterator[list[bytes]]]

_DEFAULTS = {"context": "", "bos": True, "eos": True, "tokens": False}
_SHOWN = 10  # faulty lines that are reported one by one
_MOST_SECONDS = 0.2  # that rows wait to be written together


class _Report:
    """Counts rows and shows, on standard error, how far it is."""

    def __init__(self, source: Source, before: Sink) -> None:
        self._console = Console(stderr=True)
        self._source, self._before = source, before
        self.rows = self.faults = 0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[rows]:,} lines"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]:,.0f} lines/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._started = time.monotonic()
        self._task = self._progress.add_task("", total=None, rows=before.count, speed=0.0)

    def __enter__(self) -> "_Report":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        parts = [f"{self.rows:,} lines"]
        if self.faults:
            parts.append(f"{self.faults:,} of them with an error")
        if self._before.count:
            parts.append(f"behind {self._before.count:,} that were there")
        if self._before.faults:
            parts.append(f"{self._before.faults:,} of those with an error")
        self._console.print(", ".join(parts), highlight=False)

    def add(self, rows: list[bytes]) -> None:
        self.rows += len(rows)
        for row in rows:
            if ERROR in row:
                self._fault(orjson.loads(row))
        speed = self.rows / max(time.monotonic() - self._started, 1e-3)
        self._progress.update(
            self._task,
            total=self._source.size,
            completed=self._source.position,
            rows=self._before.count + self.rows,
            speed=speed,
        )

    def _fault(self, row: dict[str, Any]) -> None:
        self.faults += 1
        error = row["error"]
        faults = "; ".join(f"{fault['field']}: {fault['message']}" for fault in error["errors"])
        if self.faults <= _SHOWN:
            text = f"line {row['line']}: {faults or error['detail']}"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self.faults == _SHOWN + 1:
            self._console.print("more of them are in the output", highlight=False)


def score_file(
    source: str,
    target: str,
    form: str | None,
    *,
    resume: bool,
    url: str | None,
    model: str | None,
    options: dict[str, Any],
    load: "Callable[[], LanguageModel]",
) -> int:
    """Write a row for every line and return how many of all are errors, earlier ones too.

    Args:
        source: The file to read, or ``-``.
        target: The file to write, or ``-``; Parquet if its name says so.
        form: What ``source`` is; None for what its name says.
        resume: Go on behind the last whole row of ``target``.
        url: Of a service that scores; None to do it here.
        model: Name that the service knows.
        options: Fields of every line that does not say otherwise.
        load: Returns the model, where there is no service.

    Raises:
        FileError: A file or format that cannot be used.
        ClientError: The service does not answer; the rows so far are whole.
        OSError: A file that cannot be read or written.
    """
    from app.settings import Settings

    settings = Settings()
    defaults = {name: value for name, value in options.items() if value != _DEFAULTS[name]}
    with ExitStack() as stack:
        if url is None:
            rows_of: Rows = _local_rows(load, settings)
        else:
            defaults |= {} if model is None else {"model": model}
            rows_of = _served_rows(stack.enter_context(_client(url)))
        lines = Source(source, _format(form, source), defaults, settings.max_body_bytes)
        return _score(lines, rows_of, source, target, resume=resume)


def ask_scores(url: str, model: str | None, query: "ScoreRequest") -> dict[str, Any]:
    """Return a service's answer to /score."""
    with _client(url) as client:
        answer = client.score(
            query.texts,
            context=query.context,
            bos=query.bos,
            eos=query.eos,
            tokens=query.tokens,
            history=query.history,
            model=model,
        )
    return {"model": answer.model, "results": answer.results}


def _score(lines: Source, rows_of: Rows, source: str, target: str, *, resume: bool) -> int:
    both = (Path(source), Path(target))
    plain = STANDARD not in (source, target) and all(path.exists() for path in both)
    if plain and both[0].samefile(both[1]):
        raise FileError(f"{target}: is the input")
    made = Path(target) if target != STANDARD and format_of(target) == "parquet" else None
    if made is not None:
        if made.exists():
            raise FileError(f"{made}: exists" + (", whole" if resume else ""))
        # What is half written is no Parquet file; rows are.
        target = f"{made}.rows.jsonl"
    with Sink(target, resume=resume) as sink, _Report(lines, sink) as report:
        for rows in rows_of(lines.lines(sink.count), sink.count + 1):
            sink.write(rows)
            report.add(rows)
    if made is not None:
        write_parquet(Path(target), made)
        Path(target).unlink()
    return sink.faults + report.faults


def _local_rows(load: "Callable[[], LanguageModel]", settings: "Settings") -> Rows:
    def rows_of(lines: Iterable[bytes], first: int) -> Iterator[list[bytes]]:
        from app.bulk.scorers import LocalScorer

        yield from LocalScorer(load(), settings).rows(lines, first)

    return rows_of


def _served_rows(client: "Client") -> Rows:
    def rows_of(lines: Iterable[bytes], first: int) -> Iterator[list[bytes]]:
        ready: list[bytes] = []
        written = time.monotonic()
        for row in client.score_lines(lines, first):
            ready.append(row + b"\n")
            if (now := time.monotonic()) - written > _MOST_SECONDS:
                yield ready
                ready, written = [], now
        if ready:
            yield ready

    return rows_of


def _client(url: str) -> "Client":
    from app.client import Client

    if not url.startswith(("http://", "https://")):
        raise FileError("--url must begin with http:// or https://")
    return Client(url, api_key=os.environ.get("NEXTWORD_API_KEY") or None)


def _format(form: str | None, source: str) -> Format:
    if form is None:
        return format_of(source)
    for known in get_args(Format):
        if form == known:
            return known  # type: ignore[no-any-return]
    raise FileError(f"--format must be one of {', '.join(get_args(Format))}")
