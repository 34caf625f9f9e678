"""The same rows by many processes or machines: Ray Data over files or object storage.

::

    python -m app.bulk.ray --checkpoint checkpoints/everyday-lstm \
        --input s3://bucket/texts/ --output s3://bucket/rows/ --workers 8

Input, whose ``--format`` must be told where its name does not, is Parquet or JSON lines with a
column ``text`` (and, if you like, ``id``, ``context``, ``bos``, ``eos``, ``tokens``), or text.
Output is Parquet with the input's columns and the scores beside them; columns of the input with
the scores' names give way. Ray computes again what a
worker that died had not handed over, and a block is written under a name of its own, so that no
row is lost or doubled.
"""

import argparse
from pathlib import Path
from typing import get_args

import pyarrow
import ray
import ray.data

from app.bulk.sources import Format, format_of
from app.bulk.tables import lines_of, with_scores


class Scorer:
    """Scores batches; one in every worker, which loads the model once."""

    def __init__(self, checkpoint: str, threads: int = 1) -> None:
        """Load the model from a folder that every worker can read."""
        from app.bulk.scorers import LocalScorer
        from app.settings import Settings
        from models.backends.choose import choose_backend
        from models.checkpoint import load_checkpoint

        settings = Settings()
        model = load_checkpoint(Path(checkpoint))
        self._scorer = LocalScorer(
            choose_backend(model, settings.precision, threads=threads), settings
        )

    def __call__(self, texts: pyarrow.Table) -> pyarrow.Table:
        """Return the rows with a column for each number, and ``words`` and ``error`` as JSON."""
        rows = (row for rows in self._scorer.rows(lines_of(texts)) for row in rows)
        return with_scores(texts, rows)


def score_dataset(
    texts: "ray.data.Dataset",
    checkpoint: str,
    *,
    workers: int = 1,
    threads: int = 1,
    batch_size: int = 1024,
) -> "ray.data.Dataset":
    """Return the rows of ``texts`` with their scores, which are computed when they are asked for.

    Args:
        texts: Rows with a column ``text``; see above.
        checkpoint: Folder of the model, on every machine.
        workers: Processes that compute, each with a model.
        threads: Processors of each.
        batch_size: Rows that a worker takes at a time.
    """
    return texts.map_batches(
        Scorer,
        fn_constructor_args=(checkpoint, threads),
        batch_size=batch_size,
        batch_format="pyarrow",
        num_cpus=threads,
        compute=ray.data.ActorPoolStrategy(size=workers),
        # A worker that dies is started again, as often as it takes.
        max_restarts=-1,
        max_task_retries=-1,
    )


def read(path: str, form: Format | None = None) -> "ray.data.Dataset":
    """Return what a file or folder, here or in storage, holds.

    Args:
        path: Where it is.
        form: What it is; None for what its name says, or that of the first file of a folder here.
    """
    first = next((str(p) for p in sorted(Path(path).glob("*")) if p.is_file()), path)
    match form or format_of(first):
        case "parquet":
            return ray.data.read_parquet(path)
        case "text":
            return ray.data.read_text(path, drop_empty_lines=False)
        case "jsonl":
            return ray.data.read_json(path, lines=True)


def main() -> None:
    """Score files by Ray."""
    parser = argparse.ArgumentParser(prog="python -m app.bulk.ray", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="folder, on every machine")
    parser.add_argument("--input", required=True, help="file or folder, here or in storage")
    parser.add_argument("--format", choices=get_args(Format), help="of the input; else by its name")
    parser.add_argument("--output", required=True, help="folder for Parquet files")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute")
    parser.add_argument("--threads", type=int, default=1, help="processors of each")
    parser.add_argument("--batch-size", type=int, default=1024, help="rows at a time")
    options = parser.parse_args()
    scored = score_dataset(
        read(options.input, options.format),
        options.checkpoint,
        workers=options.workers,
        threads=options.threads,
        batch_size=options.batch_size,
    )
    scored.write_parquet(options.output, mode=ray.data.SaveMode.ERROR)


if __name__ == "__main__":
    main()
