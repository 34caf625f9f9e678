"""Training speed against the length of a segment, for the four kinds of network.

::

    python -m benchmarks.training_length --picture docs/training-length.png

An optimizer step reads equally many tokens however they are cut: few long segments side by side, or
many short ones. A recurrent network works through a segment step by step; a Transformer reads all
of it at once, at the price of attention that grows with its length. Tokens are random: what they
say costs no time.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from models.networks import Network, build_network, network_config
from training.loss import fused_cross_entropy
from training.trainer import pick_precision

KINDS = ("rnn", "gru", "lstm", "transformer")
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
TOKENS, VOCABULARY = 2048, 8192


def network_of(kind: str) -> Network:
    """Return a network of the size of those that ship."""
    sizes = {"kind": kind, "vocab_size": VOCABULARY, "num_ids": VOCABULARY + 1}
    sizes |= {"embedding_size": 256}
    if kind == "transformer":
        sizes |= {"num_layers": 5, "num_heads": 4, "feedforward_size": 704}
        sizes |= {"context_length": max(LENGTHS)}
    else:
        sizes |= {"num_layers": 2, "hidden_size": 512}
    return build_network(network_config(sizes))


def step_seconds(network: Network, length: int, steps: int) -> list[float]:
    """Return the time of each of some training steps, forward and backward, after a first one."""
    device = network.embedding.weight.device
    precision = pick_precision("auto", device)
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (TOKENS // length, length + 1), generator=random).to(device)
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            features, _ = network.features(ids[:, :-1])
        loss = fused_cross_entropy(
            features.flatten(0, 1).float(),
            network.output_weight,
            network.output_bias,
            ids[:, 1:].flatten(),
            dtype=precision,
        )
        loss.backward()
        network.zero_grad()
        float(loss.detach())  # waits for a GPU
        times.append(time.perf_counter() - began)
    return times[1:]


def draw(speeds: dict[str, list[float]], path: Path) -> None:
    """Draw a curve a kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    panel = figure.subplots()
    styles = zip(("#E69F00", "#009E73", "#0072B2", "#D55E00"), "sD^o", strict=True)
    for (kind, values), (colour, marker) in zip(speeds.items(), styles, strict=False):
        panel.plot(LENGTHS[: len(values)], values, color=colour, marker=marker, label=kind)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.set_ylim(bottom=0)
    panel.set_xlabel(f"segment length, tokens ({TOKENS:,} tokens a step)")
    panel.set_ylabel("tokens a second, forward and backward")
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Measure, round after round, so that slow moments of the machine fall on all alike."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    networks = {kind: network_of(kind).to(options.device) for kind in KINDS}
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for length in LENGTHS:
            for kind, network in networks.items():
                times.setdefault((kind, length), []).extend(step_seconds(network, length, 1))
    speeds = {
        kind: [TOKENS / statistics.median(times[kind, length]) for length in LENGTHS]
        for kind in KINDS
    }
    print("| tokens a second |" + "".join(f" {length} |" for length in LENGTHS))
    print("|---|" + "---:|" * len(LENGTHS))
    for kind, values in speeds.items():
        print(f"| {kind} |" + "".join(f" {value:,.0f} |" for value in values))
    if options.picture:
        draw(speeds, options.picture)


if __name__ == "__main__":
    main()
