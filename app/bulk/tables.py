"""Arrow tables of texts, as lines of `/score/bulk`, and their rows beside them."""

from collections.abc import Iterable
from typing import Any

import orjson
import pyarrow

from app.bulk.sources import line_of, rows_of

_SCORES = {
    "log_prob": pyarrow.float64(),
    "perplexity": pyarrow.float64(),
    "mean_log_prob": pyarrow.float64(),
    "bits_per_character": pyarrow.float64(),
    "scored_tokens": pyarrow.int64(),
    "oov_count": pyarrow.int64(),
    "eos_log_prob": pyarrow.float64(),
    "words": pyarrow.string(),
    "error": pyarrow.string(),
}
_ASKED = ("text", "context", "bos", "eos", "tokens")


def lines_of(texts: pyarrow.Table) -> list[bytes]:
    """Return a line for each row of a table with a column ``text``; other columns ask nothing."""
    asked = texts.select([name for name in _ASKED if name in texts.column_names])
    return [line_of(row) for row in rows_of(asked)]


def with_scores(texts: pyarrow.Table, rows: Iterable[bytes]) -> pyarrow.Table:
    """Return a table with a column for each number, and ``words`` and ``error`` as JSON.

    Columns that it had under these names, such as earlier scores, give way.

    Args:
        texts: What was scored.
        rows: Of each line, in order.
    """
    answers: list[dict[str, Any]] = [orjson.loads(row) for row in rows]
    texts = texts.drop_columns([name for name in _SCORES if name in texts.column_names])
    for name, kind in _SCORES.items():
        values = [answer.get(name) for answer in answers]
        if kind == pyarrow.string():
            values = [None if v is None else orjson.dumps(v).decode() for v in values]
        texts = texts.append_column(name, pyarrow.array(values, kind))
    return texts
