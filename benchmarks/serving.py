"""Speed of the service over HTTP against peers, side by side in one run.

::

    python -m benchmarks.serving --peers PEERS/bin/python

``PEERS`` is an environment of its own that holds what `benchmarks/peers.txt` lists. Servers and
the clients, which are one process, share the machine; an idle server costs nothing while another
is measured, and rounds alternate their order. Every answer is checked: status 200, and sane.
Each side has the threads and processes that were measured best for it; those that type are served
by one process, unless it says otherwise.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import sizes
from benchmarks.bench import Bench
from benchmarks.hall import Hall
from benchmarks.options import chosen_rows, end_in_order, row_options
from benchmarks.report import machine, write_report
from benchmarks.rows import Row
from benchmarks.worker import Crew


def typing_alone(hall: Hall, stack: ExitStack) -> Row:
    """Compare the answers to one person who types."""
    return Row(
        "typing-1",
        "/next-word while one client types, latency",
        "ms, p50",
        False,
        hall.typing_sides(stack, clients=1, of="p50"),
        note="everyday sentences character by character: `text` to the last finished word, `prefix`"
        " what is typed behind it, the default model, top_k 5. The trivial endpoint takes a schema "
        "and returns a constant dictionary as long as our answers; uvicorn, uvloop, httptools.",
    )


def typing_at_leisure(hall: Hall, stack: ExitStack) -> Row:
    """Compare the answers to one person who types as fast as people can."""
    return Row(
        "typing-paced",
        "/next-word while one person types, 30 ms between keys, latency",
        "ms, p50",
        False,
        hall.typing_sides(stack, clients=1, of="p50", pause=0.03),
        note="as `typing-1`, but the next key comes 30 ms after an answer, faster than anybody "
        "types; in the meantime nextword reads ahead.",
    )


def typing_together(hall: Hall, stack: ExitStack) -> Row:
    """Compare the answers to 64 people who type."""
    return Row(
        "typing-64",
        "/next-word while 64 clients type, no pause between keys",
        "requests/s",
        True,
        [
            *hall.typing_sides(stack, clients=64, of="rate"),
            hall.typing_to_several(stack, clients=64),
        ],
        note="as `typing-1`; latencies in ms, /health asked every 20 ms at the same time. The "
        "clients' own process takes its share of the cores from both sides.",
    )


def fresh_contexts(hall: Hall, stack: ExitStack) -> Row:
    """Compare the answers to questions whose contexts nobody asked about before."""
    return Row(
        "fresh-64",
        "/next-word, 64 clients, 20 fresh words a request: Transformer d256 L6, 33,278 words",
        "requests/s",
        True,
        [
            hall.fastest_of_ours(stack, "nextword", hall.fresh),
            hall.fastest_gpt2(stack),
        ],
        note="the peer is GPT-2 of the same size in transformers behind FastAPI, one forward pass "
        "a request, the last position's logits alone, top 10 of the softmax; how many processes, "
        "passes side by side in each and threads of each is chosen by measuring.",
    )


def scoring(hall: Hall, stack: ExitStack) -> Row:
    """Compare the scoring of sentences over HTTP with a peer in its own process."""
    return Row(
        "score-http",
        f"/score, {sizes.SENTENCES} sentences of 20 words a request: Transformer d256 L6",
        "tokens/s",
        True,
        [
            hall.fastest_of_ours(stack, "nextword, 2 clients over HTTP", hall.scoring),
            hall.bench.ctranslate("score", calls=hall.bench.calls, more_is_better=True),
        ],
        note="CTranslate2 stands behind no server: it is called in its own process, with sentences "
        "split into words, 32 a call.",
    )


def generation(hall: Hall, stack: ExitStack) -> Row:
    """Compare continuations over HTTP with a peer in its own process."""
    return Row(
        "generate-http",
        f"/generate, {sizes.GENERATED} tokens, {sizes.SEQUENCES} clients: Transformer d256 L6",
        "tokens/s",
        True,
        [
            hall.fastest_of_ours(stack, "nextword, 32 clients over HTTP", hall.generation),
            hall.bench.ctranslate("generate", more_is_better=True),
        ],
        note="greedy. CTranslate2 stands behind no server: it is called in its own process with "
        "all 32 prompts together.",
    )


def start(hall: Hall, stack: ExitStack) -> Row:
    """Compare the start of the service with what nobody who uses torch can save."""
    return Row(
        "start",
        "From start to ready",
        "s",
        False,
        [
            hall.starting("nextword serve, default model", hall.default_models),
            hall.starting("nextword serve, all models that ship", hall.shipped),
            hall.importing('python -c "import torch"'),
        ],
        note="ready is the first 200 of /ready; the same interpreter.",
    )


ROWS: dict[str, Callable[[Hall, ExitStack], Row]] = {
    "typing-1": typing_alone,
    "typing-paced": typing_at_leisure,
    "typing-64": typing_together,
    "fresh-64": fresh_contexts,
    "score-http": scoring,
    "generate-http": generation,
    "start": start,
}


def main() -> None:
    """Measure the rows that were asked for and report them."""
    parser = row_options(__doc__, ROWS)
    parser.add_argument("--seconds", type=float, default=3, help="of a measurement under load")
    parser.add_argument("--models", type=Path, default=Path("checkpoints"), help="that ship")
    parser.add_argument("--model", default="everyday-lstm", help="the default one")
    arguments = parser.parse_args()
    names = chosen_rows(parser, arguments.rows, ROWS)

    end_in_order()  # servers would outlive this process
    out = arguments.out.resolve()
    (out / "models").mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    rows: list[Row] = []
    began = time.perf_counter()
    try:
        with Crew(arguments.peers, out / "serving.log") as crew:
            bench = Bench(crew, arguments.threads, 64, arguments.calls, out / "models")
            hall = Hall(
                bench, arguments.peers, arguments.models, arguments.model, arguments.seconds, out
            )
            for name in names:
                with ExitStack() as stack, console.status(f"{name}: starting") as status:
                    row = ROWS[name](hall, stack)
                    status.update(f"{name}: {arguments.rounds} rounds")
                    rows.append(row)
                    row.run(arguments.rounds, warm_up=True)
                console.print(f"{name}: measured after {time.perf_counter() - began:.0f} s")
    finally:
        if rows:
            about = {
                **machine(),
                "threads": f"ours as it comes, peers up to {arguments.threads}",
                "rounds": arguments.rounds,
                "seconds": arguments.seconds,
            }
            print(write_report(rows, out, "serving", about))


if __name__ == "__main__":
    main()
