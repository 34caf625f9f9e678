"""What the commands that compare rows take, and have in common."""

import argparse
import signal
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.worker import absolute


def row_options(description: str, rows: Collection[str]) -> argparse.ArgumentParser:
    """Return a parser of the options that both have.

    Args:
        description: Of the command; its first line is shown.
        rows: Names of the rows there are.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--peers", type=absolute, help="Python of the peers' environment")
    parser.add_argument("--rows", default=",".join(rows), help=f"some of {', '.join(rows)}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--threads", type=int, default=2, help="most threads of a side")
    parser.add_argument("--calls", type=int, default=3, help="calls of a measurement of scoring")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder to fill")
    return parser


def chosen_rows(parser: argparse.ArgumentParser, text: str, rows: Collection[str]) -> list[str]:
    """Return the names in ``text``, comma-separated; end the command where one is not known."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(rows)):
        parser.error(f"no row {unknown[0]}; there are {', '.join(rows)}")
    return names


def end_in_order() -> None:
    """On SIGTERM unwind, so that what was started is ended and what was measured is reported."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
