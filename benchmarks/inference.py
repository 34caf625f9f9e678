"""Speed of the networks against peers, side by side in one run.

::

    python -m benchmarks.inference --peers PEERS/bin/python

``PEERS`` is an environment of its own that holds what `benchmarks/peers.txt` lists. All sides have
the same sizes (`benchmarks/sizes.py`), random weights, and up to ``--threads`` threads: each side
runs with the number of them that is fastest for it, which is measured first. Every side is a
process that works on command and is stopped while another works; rounds alternate their order.
"""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from benchmarks import sizes
from benchmarks.bench import Bench
from benchmarks.options import chosen_rows, end_in_order, row_options
from benchmarks.report import machine, write_report
from benchmarks.rows import Row, Side
from benchmarks.worker import Crew

MILLISECONDS = 1e3
LSTM_CONTEXTS = (64, 512, 1024, 2048, 4096)  # tokens
TRANSFORMER_CONTEXTS = (64, 128, 224, 512, 1024, 4096)  # tokens; attention reaches back over 256


def transformer_step(bench: Bench, batch: int) -> Row:
    """Compare a step of the Transformer; at batch 1 and others."""
    steps = bench.steps if batch == 1 else bench.steps // 2  # each takes long enough
    task: dict[str, Any] = {"batch": batch, "cached": sizes.CACHED, "steps": steps}
    task["scale"] = MILLISECONDS
    folder = str(bench.models / "gpt2")
    eager = "transformers eager float32"
    return Row(
        f"step-{batch}",
        f"One step, batch {batch}: Transformer d256 L6, 33,278 words, {sizes.CACHED} cached",
        "ms",
        False,
        [
            *bench.ours("", "step", kind="transformer", **task),
            bench.ctranslate("step", **task),
            bench.side(eager, "peers.huggingface", "step", folder=folder, **task),
        ],
        note="greedy; SwiGLU 704 with rotary positions here, GELU 1024 with learnt positions "
        "there: 2% more weights a block for us. All but CTranslate2 return log-probabilities of "
        "all words; CTranslate2 the chosen word alone, which is less work. Its step is what a "
        "continuation gets longer by, so its prompt and call cost nothing.",
    )


def lstm_step(bench: Bench) -> Row:
    """Compare a step of the LSTM."""
    task: dict[str, Any] = {"steps": bench.steps, "scale": MILLISECONDS}
    path = str(bench.models / "lstm.onnx")
    return Row(
        "step-lstm",
        "One step, batch 1: LSTM 2x512, tied, 33,278 words",
        "ms",
        False,
        [
            *bench.ours("", "step", kind="lstm", batch=1, cached=sizes.CACHED, **task),
            bench.side("ONNX Runtime float32", "peers.onnx_lstm", "step", path=path, **task),
            bench.side("torch eager float32", "peers.torch_lstm", "step", **task),
        ],
        note="every side returns the log-probabilities of all words, and takes the most probable.",
    )


def context_cost(bench: Bench, kind: str) -> Row:
    """Measure a step behind contexts of several lengths: the first side is the shortest."""
    contexts = LSTM_CONTEXTS if kind == "lstm" else TRANSFORMER_CONTEXTS
    steps = min(bench.steps, 32)  # few, so that a length means something
    sides: list[Side] = []
    curve: list[tuple[str, float]] = []
    for backend in ("native", "torch"):
        choice = [{"threads": 1}]  # it is the growth that counts, and one thread waits for none
        for cached in contexts:
            side = bench.side(
                f"nextword, {backend}, {cached:,} tokens read",
                "ours",
                "step",
                choice,
                kind=kind,
                backend=backend,
                batch=1,
                cached=cached,
                steps=steps,
                scale=MILLISECONDS,
            )
            if side.missing and sides and sides[-1].missing:
                continue  # said once
            sides.append(side)
            curve.append((backend, cached))
    title = "LSTM 2x512" if kind == "lstm" else "Transformer d256 L6, which reaches back over 256"
    order = sorted(range(len(sides)), key=lambda i: bool(sides[i].missing))
    return Row(
        f"context-{kind}",
        f"One step against the context read before it: {title}",
        "ms",
        False,
        [sides[i] for i in order],
        curve=[curve[i] for i in order],
        x_label="tokens read before",
        note="the ratio is what a step costs compared with the shortest context of its backend.",
    )


def scoring(bench: Bench) -> Row:
    """Compare the scoring of sentences."""
    task: dict[str, Any] = {"calls": bench.calls, "more_is_better": True}
    path = str(bench.models / "5-gram.arpa")
    once = [{"threads": 1}]
    return Row(
        "score",
        f"Scoring, {sizes.SENTENCES} sentences of about 20 words a call: Transformer d256 L6",
        "tokens/s",
        True,
        [
            *bench.ours(", passes alone", "passes", **task),
            *bench.ours(", from text to result", "score", **task),
            bench.ctranslate("score", **task),
            bench.side(
                "KenLM 5-gram, no network: for orientation",
                "peers.kenlm_scorer",
                "score",
                once,
                path=path,
                **task,
            ),
        ],
        note="CTranslate2 and our passes alone are given words that are split already; "
        "tokens are words and one end of sentence each.",
    )


def generation(bench: Bench) -> Row:
    """Compare the generation of continuations."""
    return Row(
        "generate",
        f"Generating {sizes.GENERATED} tokens, {sizes.SEQUENCES} sequences: Transformer d256 L6",
        "tokens/s",
        True,
        [
            *bench.ours("", "generate", more_is_better=True),
            bench.ctranslate("generate", more_is_better=True),
        ],
        note="greedy; prompts of eight words included; ours from text to text with every token's "
        "log-probability, CTranslate2 from words to words.",
    )


ROWS: dict[str, Callable[[Bench], Row]] = {
    "step-1": lambda bench: transformer_step(bench, 1),
    "step-32": lambda bench: transformer_step(bench, 32),
    "step-lstm": lstm_step,
    "context-lstm": lambda bench: context_cost(bench, "lstm"),
    "context-transformer": lambda bench: context_cost(bench, "transformer"),
    "score": scoring,
    "generate": generation,
}


def main() -> None:
    """Measure the rows that were asked for and report them."""
    parser = row_options(__doc__, ROWS)
    parser.add_argument("--steps", type=int, default=64, help="steps of a measurement, 2 to 120")
    arguments = parser.parse_args()
    names = chosen_rows(parser, arguments.rows, ROWS)
    if not 2 <= arguments.steps <= 120:
        parser.error("--steps must be between 2 and 120")

    end_in_order()  # stopped workers would outlive this process
    out = arguments.out.resolve()
    models = out / "models"
    models.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    rows: list[Row] = []
    began = time.perf_counter()
    try:
        with Crew(arguments.peers, out / "inference.log") as crew:
            bench = Bench(crew, arguments.threads, arguments.steps, arguments.calls, models)
            for name in names:
                with console.status(f"{name}: starting the sides") as status:
                    row = ROWS[name](bench)
                    status.update(f"{name}: {arguments.rounds} rounds")
                    rows.append(row)
                    row.run(arguments.rounds)
                console.print(f"{name}: measured after {time.perf_counter() - began:.0f} s")
    finally:
        if rows:
            about = {**machine(), "threads": f"up to {bench.threads}", "rounds": arguments.rounds}
            print(write_report(rows, out, "inference", about))


if __name__ == "__main__":
    main()
