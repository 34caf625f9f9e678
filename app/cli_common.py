"""What the commands around ``training`` share: options, loading, and how they fail.

Everything of ``training`` is imported inside the functions, so that a server never loads it.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from models.errors import NextwordError

if TYPE_CHECKING:
    from models.language_model import LanguageModel

USER_ERROR, STOPPED = 2, 130  # exit codes; 128 + SIGINT, as shells have it

Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads; by default one a core.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, …; by default the GPU where there is one.")
]

Lines = Annotated[
    bool, typer.Option("--lines", help="Let every line begin anew, as n-gram models do.")
]


def load(folder: Path, device: str | None) -> "LanguageModel":
    """Load a checkpoint onto a device."""
    from models.checkpoint import load_checkpoint
    from training.device import pick_device

    model = load_checkpoint(folder)
    model.network.to(pick_device(device))
    return model


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads; None leaves it as it is."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def check_files(paths: Sequence[Path]) -> None:
    """Fail unless all are files."""
    for path in paths:
        if not path.exists():
            fail(f"{path}: no such file")
        if not path.is_file():
            fail(f"{path} is not a file")


def restart_tuned() -> None:
    """Restart the command with allocator settings; a program that calls it, say a test, stays."""
    if Path(sys.argv[0]).name in ("nextword", "cli.py", "cli_training.py"):
        import os

        from training import allocator

        allocator.restart_tuned(os.environ, sys.orig_argv)


def fail(message: str) -> NoReturn:
    """End the command with one line."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(USER_ERROR)


@contextmanager
def user_errors(stopped: str) -> Iterator[None]:
    """Turn what a user can mend into one line, and a stop into how to go on."""
    from training.interrupt import TrainingStopped

    try:
        yield
    except TrainingStopped as stop:
        typer.echo(f"{stop}; {stopped}", err=True)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {stopped}", err=True)
        raise typer.Exit(STOPPED) from None
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (NextwordError, ValueError, FloatingPointError) as error:
        fail(" ".join(str(error).split()))
