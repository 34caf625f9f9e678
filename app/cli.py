"""The command ``nextword``.

Whatever takes long to import is imported inside the commands, so that ``--help`` comes at once.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import cli_compare, cli_keys, cli_training
from app.cli_common import USER_ERROR, fail

if TYPE_CHECKING:
    from app.settings import Settings
    from models.language_model import LanguageModel

app = typer.Typer(
    name="nextword",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Predict text with language models trained on your own: what word comes next, how likely "
    "a sentence is, how it goes on.",
)

FAULTY_LINES = 1  # exit code

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME|FOLDER", help="Model; by default the service's default."
    ),
]
History = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What the user wrote before, as UTF-8 text; - reads stdin."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the service's answer, exactly.")]


@app.callback(invoke_without_command=True)
def nextword(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take options that stand before the command."""
    if show_version:
        typer.echo(version("nextword"))
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port.")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds one folder a model.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that serve the port.")
    ] = None,
) -> None:
    """Start the service; NEXTWORD_HOST and the like set what no option sets."""
    with _user_errors():
        settings = _settings(host=host, port=port, models_dir=models_dir, workers=workers)
        if not settings.models_dir.is_dir():
            fail(f"{settings.models_dir}: no such folder")
        from app.server import serve as run_server

        run_server(settings)


@app.command("next")
def next_(
    text: Annotated[str, typer.Argument(help="What has been written so far.")] = "",
    model: Model = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="How many words.")] = 10,
    prefix: Annotated[str, typer.Option(help="The next word as typed so far.")] = "",
    words: Annotated[int, typer.Option(help="Words of each prediction.")] = 1,
    candidate: Annotated[
        list[str] | None, typer.Option(help="A word to report in any case; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A word never to predict; repeatable.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Above 1 flattens the distribution.")] = 1.0,
    punctuation: Annotated[bool, typer.Option("--punctuation", help="Predict it too.")] = False,
    history: History = None,
    as_json: AsJSON = False,
) -> None:
    """Predict the next word: the most probable ones, exactly."""
    with _user_errors():
        from app.schemas.requests import NextWordRequest

        query = NextWordRequest(
            text=text,
            top_k=top_k,
            prefix=prefix,
            num_words=words,
            candidates=candidate or [],
            exclude=exclude or [],
            temperature=temperature,
            words_only=not punctuation,
            history=_read_history(history),
        )
        loaded = _load(model)
        from app.answers import next_word_answer
        from app.cli_tables import print_next_words
        from models.forward import run

        answer = run(next_word_answer(loaded, query), loaded)
        _print_json(answer) if as_json else print_next_words(answer)


@app.command()
def score(
    text: Annotated[list[str] | None, typer.Argument(help="A sentence, or several.")] = None,
    model: Model = None,
    source: Annotated[
        str | None, typer.Option("--input", help="Score each line of a file; - is standard input.")
    ] = None,
    target: Annotated[
        str, typer.Option("--output", help="Where a row for each line goes; - is standard output.")
    ] = "-",
    form: Annotated[
        str | None,
        typer.Option("--format", help="Of the input: jsonl, parquet, text; else by its name."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the last whole row of the output.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="Ask this service; loads no model.")] = None,
    context: Annotated[str, typer.Option(help="Given before each, not scored.")] = "",
    tokens: Annotated[bool, typer.Option("--tokens", help="Report each word.")] = False,
    bos: Annotated[bool, typer.Option(help="The text begins a sentence.")] = True,
    eos: Annotated[bool, typer.Option(help="Score also that the sentence ends.")] = True,
    history: History = None,
    as_json: AsJSON = False,
) -> None:
    """Tell how likely sentences are; colours show how much each word surprises.

    With --input every line of a file, whatever its size; exit status 1 if a line was faulty.
    """
    with _user_errors():
        if source is not None:
            if text or as_json:
                fail("--input stands in the place of texts, and its rows are always JSON")
            if history is not None:
                fail("--history belongs to texts, not to --input")
            from app.cli_score import score_file

            options = {"context": context, "bos": bos, "eos": eos, "tokens": tokens}
            load = partial(_load, model)
            files = (source, target, form)
            if score_file(*files, resume=resume, url=url, model=model, options=options, load=load):
                raise typer.Exit(FAULTY_LINES)
            return
        if target != "-" or form or resume:
            fail("--output, --format and --resume belong to --input")
        if not text:
            fail("Missing argument TEXT, or --input FILE")
        from app.schemas.requests import ScoreRequest

        detail = tokens or not as_json  # the colours need each word
        query = ScoreRequest(
            text=text,
            context=context,
            bos=bos,
            eos=eos,
            tokens=detail,
            history=_read_history(history),
        )
        if url is not None:
            from app.cli_score import ask_scores

            answer = ask_scores(url, model, query)
        else:
            loaded = _load(model)
            from app.answers import score_answer
            from models.forward import run

            answer = run(score_answer(loaded, query), loaded)
        from app.cli_tables import print_scores

        _print_json(answer) if as_json else print_scores(answer, words=tokens)


@app.command()
def generate(
    text: Annotated[str, typer.Argument(help="What to continue.")] = "",
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens.")] = 32,
    strategy: Annotated[str, typer.Option(help="greedy, sample or beam.")] = "greedy",
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 is greedy.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from this many tokens.")] = None,
    top_p: Annotated[float, typer.Option(help="Sample from this much probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Sample tokens this close to the best.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 repeats less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same text.")] = None,
    num_beams: Annotated[int, typer.Option(help="Beams of strategy beam.")] = 4,
    n: Annotated[int, typer.Option("-n", help="How many continuations.")] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this string; repeatable.")
    ] = None,
    log_probs: Annotated[
        bool, typer.Option("--log-probs", help="With --json: report each token.")
    ] = False,
    history: History = None,
    as_json: AsJSON = False,
) -> None:
    """Continue a text, word by word as it is found."""
    with _user_errors():
        from app.schemas.requests import GenerateRequest

        query = GenerateRequest.model_validate(
            {
                "text": text,
                "max_tokens": max_tokens,
                "strategy": strategy,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "repetition_penalty": repetition_penalty,
                "seed": seed,
                "num_beams": num_beams,
                "n": n,
                "stop": stop or [],
                "log_probs": log_probs,
                "history": _read_history(history),
            }
        )
        loaded = _load(model)
        from app.answers import generate_answer
        from app.cli_tables import ContinuationPrinter
        from models.forward import run

        if as_json:
            _print_json(run(generate_answer(loaded, query), loaded))
            return
        streams = n == 1 and strategy != "beam"
        printer = ContinuationPrinter(text)
        on_text = printer.add if streams else None
        answer = run(generate_answer(loaded, query, on_text), loaded)
        printer.finish(answer, streamed=streams)


app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_training.app)
app.add_typer(cli_compare.app)


def main() -> None:
    """Run the command."""
    if not all(map(_is_unicode, sys.argv)):
        typer.echo("error: the arguments are not valid Unicode", err=True)
        sys.exit(USER_ERROR)
    app()


def _is_unicode(argument: str) -> bool:
    # The bytes of an argument that the locale cannot decode arrive as lone surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def _settings(**values: Any) -> "Settings":
    from app.settings import Settings

    return Settings(**{name: value for name, value in values.items() if value is not None})


def _load(model: str | None) -> "LanguageModel":
    """Load a model by name or folder, or the one that the service would answer with."""
    from models.backends.choose import choose_backend
    from models.checkpoint import CONFIG, load_checkpoint

    settings = _settings()
    if model is None:
        names = [path.parent.name for path in settings.models_dir.glob(f"*/{CONFIG}")]
        if not names and settings.default_model is None:
            fail(f"{settings.models_dir}: holds no checkpoint folder; name one with --model")
        model = settings.choose_default(names)
    for folder in (settings.models_dir / model, Path(model)):
        if folder.is_dir():
            model_of_folder, threads = load_checkpoint(folder), settings.most_threads()
            return choose_backend(model_of_folder, settings.precision, threads=threads)
    fail(f"no model {model} in {settings.models_dir}, and no such folder")


def _read_history(path: Path | None) -> str:
    """Return the text of a file, of standard input for ``-``, or none."""
    if path is None:
        return ""
    content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        fail(f"{path}: not UTF-8 text")


def _print_json(answer: dict[str, Any]) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(answer, default=dict, option=orjson.OPT_INDENT_2).decode() + "\n")


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what a user can mend into one line."""
    from pydantic import ValidationError

    from models.errors import NextwordError

    try:
        yield
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        fail("; ".join(faults))
    except (NextwordError, OSError) as error:
        fail(str(error))
