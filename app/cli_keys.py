"""The command ``nextword keys``."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="API keys of the service.")


@app.callback()
def keys() -> None:
    """Make `new` a command of its own."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; stands in the log.")],
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
) -> None:
    """Make a key: shown once, never stored; what is stored is its digest."""
    from app.keys import KeysError, new_key

    try:
        key, stored = new_key(name, role)
    except KeysError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo("The key, shown only now:", err=True)
    typer.echo(key)
    typer.echo("The line to store, in NEXTWORD_API_KEYS or the file of it:", err=True)
    typer.echo(stored.line())
