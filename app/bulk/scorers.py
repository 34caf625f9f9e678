"""Lines to rows by a model in this process, without a server."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from pydantic import TypeAdapter

from app.bulk.rows import Line, score_line
from app.errors import HANDLED
from app.schemas.bounds import Bounds
from app.schemas.bulk import BulkScoreRequest
from app.settings import Settings
from models.errors import UnknownModelError
from models.forward import Program, run_all
from models.language_model import LanguageModel
from models.score import SentenceScore

R = TypeVar("R")

# Lines that are computed side by side: enough for full batches with short texts at the end of one.
_TOGETHER = 256


@dataclass(frozen=True)
class LocalScorer:
    """Scores as `/score/bulk` does, row for row.

    Attributes:
        model: The only one that lines may name.
        settings: Whose bounds hold.
    """

    model: LanguageModel
    settings: Settings

    def rows(self, lines: Iterable[bytes], first: int = 1) -> Iterator[list[bytes]]:
        """Yield rows, ended, for some lines at a time, of which the first has this number."""
        waiting = iter(lines)
        while page := list(islice(waiting, _TOGETHER)):
            yield self.score([Line(first + i, raw) for i, raw in enumerate(page)])
            first += len(page)

    def score(self, lines: list[Line]) -> list[bytes]:
        """Return the rows of some lines."""
        schema = Bounds(self.settings).bind(BulkScoreRequest)
        check = TypeAdapter(schema).validator.validate_python
        rows: list[bytes | None] = []
        queries: list[tuple[int, BulkScoreRequest]] = []
        for i, line in enumerate(lines):
            try:
                query = line.read(check, self.settings.max_body_bytes)
                if query.model not in (None, self.model.name):
                    raise UnknownModelError(f"Lines are scored by {self.model.name} here.")
            except HANDLED as error:
                rows.append(line.failed(error, ""))
            else:
                rows.append(None)
                queries.append((i, query))
        programs = [_caught(score_line(self.model, query)) for _, query in queries]
        for (i, _), result in zip(queries, run_all(programs, self.model), strict=True):
            if isinstance(result, SentenceScore):
                rows[i] = lines[i].scored(self.model.name, result)
            else:
                rows[i] = lines[i].failed(result, "")
        return [row for row in rows if row is not None]


def _caught(program: Program[R]) -> Program[R | Exception]:
    """Return what a program raises, so that it takes no other along."""
    try:
        return (yield from program)
    except Exception as error:
        return error
