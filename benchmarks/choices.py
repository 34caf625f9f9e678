"""What the choices behind the recipes are worth: small networks, one choice changed at a time.

::

    python -m benchmarks.choices PATH --picture docs/choices.png

PATH holds the folders ``dialogue``, ``sentences`` and ``wikitext-2``. All runs cost equally many
multiplications, so that a network of larger vocabulary reads less text, in fewer steps; the step
size goes through its whole course in each, 100 steps of warm-up and a decay over the last 40%.
Perplexities are per white-space word, of `training.evaluate`, so that vocabularies can be compared;
words that a vocabulary of whole words lacks are spelled out by a model of bytes, as
`training.ngram_evaluation` does. Other seeds of the unchanged networks tell how much of a
difference is chance; as their mean is their own, another run scatters about it more widely than
they do, 1.4 times where they are three, 1.7 where they are two. Those called often train on one
document in twenty, so that they read it some ten times or more, and drop a quarter of the units.

A run takes a core some twelve minutes. Results stay in ``runs/choices``: a second call goes on with
what is missing, and a last one only reports. Whoever changes a variant removes its folder there.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks.choices_variants import CHANGED, SEEDS, Variant
from benchmarks.kneser_ney import spelled, unknown_words, write_speller
from models.language_model import LanguageModel
from models.networks import Network, build_network, network_config, transformer
from models.tokenizers import Tokenizer, train_tokenizer
from training.allocator import restart_tuned
from training.corpora import read_documents
from training.dataset import Dataset, concatenate, corpus_lines, prepare
from training.evaluate import evaluate
from training.files import write_text
from training.journal import Journal
from training.ngram import NGram
from training.recipe import Recipe
from training.sampled_softmax import CandidateSampler
from training.trainer import Trainer

FOLDER = Path("runs/choices")
SOURCES = ("dialogue", "sentences", "wikitext-2")
MULTIPLICATIONS = 7e12  # by the weights and in attention, forward, in a whole run
_STEPS_DRAWN = 20  # to count the words of a sampled softmax
_VALID_PARTS = {"dialogue": 4}  # one document in so many is read for validation


@dataclass(frozen=True)
class Result:
    """What came of a variant.

    Attributes:
        weights: Of the network.
        tokens: Read in training.
        readings: Of its text.
        seconds: Of training, processor time.
        perplexities: Per white-space word, by source.
    """

    weights: int
    tokens: int
    readings: float
    seconds: float
    perplexities: dict[str, float]


def mark_capitals(line: str) -> str:
    """Write a word's first capital as a mark before the small letter, capitals only as another."""
    return re.sub(r"[^\W\d_]+", lambda match: _marked(match[0]), line)


def _marked(word: str) -> str:
    small = word.lower()
    if small != word and small[:1].upper() + small[1:] == word:
        return "⇧" + small
    return "⇪" + small if small != word and small.upper() == word else word


def write_texts(
    corpus: Path, folder: Path, change: Callable[[str], str], *, every: int = 1
) -> None:
    """Write the training text and that for validation, a blank line between documents.

    Args:
        corpus: Folder of the sources.
        folder: Where to write.
        change: Done to each line.
        every: One training document in so many is taken.
    """
    for source in SOURCES:
        for split, step in (("train", every), ("valid", _VALID_PARTS.get(source, 1))):
            path = folder / source / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                for i, document in enumerate(read_documents(corpus / source / f"{split}.txt")):
                    if i % step == 0:
                        file.writelines(change(line) + "\n" for line in document)
                        file.write("\n")


def multiplications(network: Network, recipe: Recipe, dataset: Dataset) -> float:
    """Return multiplications a token, forward: of all weights, and of attention.

    Args:
        network: To be trained.
        recipe: Where its softmax is sampled, the mean over all steps counts.
        dataset: To be read.
    """
    layers = [p.numel() for n, p in network.named_parameters() if p.dim() == 2]
    layers.remove(network.embedding.weight.numel())
    training = recipe.training
    words = float(network.vocab_size)
    if training.softmax_samples:
        words += training.sampled_share * (candidates(network, recipe, dataset) - words)
    width = network.output_weight.size(1)
    seen = (network.context_length or 1) - 1 + training.segment_length
    attention = 2 * seen * width * recipe.network["num_layers"]
    return sum(layers) + words * width + (attention if network.context_length else 0)


def candidates(network: Network, recipe: Recipe, dataset: Dataset) -> float:
    """Return how many words the sampled softmax of a step runs over, mean of some steps.

    They are frequent words, drawn ones, and the step's own.
    """
    training = recipe.training
    sampler = CandidateSampler(dataset.tokens, network.vocab_size, training.softmax_samples)
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    last = len(dataset) - training.segment_length
    counts = []
    for _ in range(_STEPS_DRAWN):
        starts = random.integers(last + 1, size=(training.batch_size, 1))
        tokens = dataset.tokens[starts + np.arange(training.segment_length)]  # (B, T)
        targets = torch.from_numpy(tokens.astype(np.int64).ravel())
        counts.append(len(sampler.draw(targets, generator=generator).token_ids))
    return statistics.mean(counts)


def run(name: str, corpus: Path) -> None:
    """Train and measure a variant."""
    torch.set_num_threads(1)
    variant = {**SEEDS, **CHANGED}[name]
    folder = _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_texts(corpus, folder, mark_capitals if variant.capitals else str, every=variant.every)
    recipe = variant.load()
    train = [folder / source / "train.txt" for source in SOURCES]
    tokenizer = train_tokenizer(
        recipe.tokenizer.kind,
        corpus_lines(train, tokenised=False),
        vocab_size=recipe.tokenizer.vocab_size,
    )
    dataset = concatenate([prepare(path, tokenizer, folder) for path in train], folder)
    valid = {"valid": prepare(folder / "sentences/valid.txt", tokenizer, folder)}
    torch.manual_seed(recipe.training.seed)
    transformer.Block = variant.block  # type: ignore[misc]
    sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    network = build_network(network_config({**recipe.network, **sizes}))
    tokens = MULTIPLICATIONS / multiplications(network, recipe, dataset)
    timed = replace(recipe, training=replace(recipe.training, epochs=tokens / len(dataset)))
    trainer = Trainer(network, timed, dataset, valid, folder)
    began = time.process_time()
    quiet = Console(quiet=True)
    with Journal(folder, steps=trainer.steps, done=0, console=quiet) as journal:
        trainer.run(journal)
    seconds = time.process_time() - began
    trainer.load_best()
    model = LanguageModel(name, network.eval(), tokenizer)
    perplexities = {}
    for source in SOURCES:
        found = evaluate(model, folder / source / "valid.txt", sample=0)
        nats = 0.0
        if tokenizer.unk_id is not None:
            nats = spelling_nats(tokenizer, train, folder / source / "valid.txt", folder)
        per_word = found.metrics["perplexity_per_word"].value
        assert per_word is not None
        perplexities[source] = per_word * math.exp(nats / found.text["words"])
    read = trainer.steps * recipe.training.batch_size * recipe.training.segment_length
    weights = sum(p.numel() for p in network.parameters())
    result = Result(weights, read, read / len(dataset), seconds, perplexities)
    write_text(folder / "result.json", json.dumps(asdict(result)))


def run_all(names: Sequence[str], corpus: Path, processes: int) -> Iterator[str]:
    """Train and measure variants, so many side by side; yield the name of each that is done.

    The first error of a run is raised at once: those that wait are cancelled, and those that run
    come to their end.
    """
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), max_tasks_per_child=1)
    try:
        running = {pool.submit(run, name, corpus): name for name in names}
        for done in as_completed(running):
            done.result()
            yield running[done]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def spelling_nats(tokenizer: Tokenizer, train: Sequence[Path], text: Path, folder: Path) -> float:
    """Return what it costs to spell the unknown words of a text, nats.

    The speller has read those of the training text, each once.
    """
    lines = [*corpus_lines(train, tokenised=False)]
    words = sorted(set(unknown_words(tokenizer, lines))) or [""]
    write_speller(words, folder / "spelling.arpa")
    speller = NGram(folder / "spelling.arpa")
    return -sum(
        float(speller.log_probs(spelled(word)).sum())
        for word in unknown_words(tokenizer, [*corpus_lines([text], tokenised=False)])
    )


def results(names: Mapping[str, Variant]) -> dict[str, Result]:
    """Return what is there so far."""
    paths = {name: _folder(name) / "result.json" for name in names}
    return {
        name: Result(**json.loads(path.read_text(encoding="utf-8")))
        for name, path in paths.items()
        if path.exists()
    }


def table() -> str:
    """Return what is there so far, in Markdown; differences are of the mean log-perplexity."""
    rows = []
    for group in dict.fromkeys(variant.group for variant in SEEDS.values()):
        seeds, changed = (
            results({name: variant for name, variant in names.items() if variant.group == group})
            for names in (SEEDS, CHANGED)
        )
        if not seeds:
            continue
        rows += [_row(name, result, differences(result, seeds)) for name, result in seeds.items()]
        rows += [_row(name, result, differences(result, seeds)) for name, result in changed.items()]
    return "\n".join(
        [
            "| | million weights | million tokens | readings | minutes | "
            + " | ".join(SOURCES)
            + " | difference |",
            "|---" + "|---:" * (5 + len(SOURCES)) + "|",
            *rows,
        ]
    )


def differences(result: Result, seeds: Mapping[str, Result]) -> dict[str, float]:
    """Return how far the log-perplexity of each source lies from the mean of the seeds."""
    return {
        source: math.log(result.perplexities[source])
        - statistics.mean(math.log(seed.perplexities[source]) for seed in seeds.values())
        for source in SOURCES
    }


def _row(name: str, result: Result, difference: Mapping[str, float]) -> str:
    figures = [f"{result.weights / 1e6:.1f}", f"{result.tokens / 1e6:.1f}"]
    figures += [f"{result.readings:.2f}", f"{result.seconds / 60:.1f}"]
    figures += [f"{result.perplexities[source]:.0f}" for source in SOURCES]
    figures.append(f"{math.expm1(statistics.mean(difference.values())):+.1%}")
    return f"| {name} | " + " | ".join(figures) + " |"


def draw(path: Path) -> None:
    """Draw each variant's difference by source, and the range of the seeds as a band."""
    from matplotlib.figure import Figure

    colours = dict(zip(SOURCES, ("#0072B2", "#D55E00", "#009E73"), strict=True))
    figure = Figure(figsize=(8.0, 5.6), dpi=120, layout="constrained")
    groups = {
        group: {name: variant for name, variant in CHANGED.items() if variant.group == group}
        for group in dict.fromkeys(variant.group for variant in SEEDS.values())
    }
    heights = [1 + len(names) for names in groups.values()]
    panels = figure.subplots(len(groups), 1, sharex=True, height_ratios=heights)
    for panel, (group, names) in zip(panels, groups.items(), strict=True):
        seeds = results({name: v for name, v in SEEDS.items() if v.group == group})
        found = [*results(names).items()][::-1]
        for source in SOURCES:
            chance = [100 * math.expm1(differences(s, seeds)[source]) for s in seeds.values()]
            if chance:
                panel.axvspan(min(chance), max(chance), color=colours[source], alpha=0.15, lw=0)
            panel.plot(
                [100 * math.expm1(differences(result, seeds)[source]) for _, result in found],
                [name for name, _ in found],
                "o",
                color=colours[source],
                label=source,
            )
        panel.axvline(0, color="#777777", linewidth=0.8)
        panel.set_title(group, fontsize=9, loc="left")
        panel.margins(y=0.5 / max(1, len(found)))
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("perplexity per word, % more than unchanged; bands: by seed alone")
    panels[0].legend(frameon=False)
    figure.savefig(path)


def _folder(name: str) -> Path:
    return FOLDER / name.replace(" ", "-").replace(",", "")


def main() -> None:
    """Run what is missing, as many at a time as asked for, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="folder of " + ", ".join(SOURCES))
    parser.add_argument("--processes", type=int, default=2, help="runs side by side")
    parser.add_argument("--picture", type=Path, help="where to draw the table, a PNG")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    variants = {**SEEDS, **CHANGED}
    missing = [name for name in variants if name not in results(variants)]
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("runs", total=len(variants), completed=len(variants) - len(missing))
        for name in run_all(missing, arguments.corpus, arguments.processes):
            console.print(f"{name}: done")
            bar.advance(task)
    text = table()
    (FOLDER / "choices.md").write_text(text + "\n", encoding="utf-8")
    console.print(Markdown(text))
    if arguments.picture:
        draw(arguments.picture)


if __name__ == "__main__":
    restart_tuned(os.environ, sys.orig_argv)
    main()
