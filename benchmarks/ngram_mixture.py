"""What counting adds to a network: an n-gram model of its tokens mixed into its distribution.

::

    python -m benchmarks.ngram_mixture checkpoints/everyday-transformer \
        --train dialogue/train.txt --train sentences/train.txt --train wikitext-2/train.txt \
        --data sentences/valid.txt --prune 2 --prune 4 --prune 8

The n-gram model is that of `benchmarks.kneser_ney`, over the network's own tokens, and smaller ones
that are left of it: an n-gram goes where it, times its occurrences, changes the log-probability of
its last token by no more than a threshold (the weighted difference of Seymore & Rosenfeld 1996),
and the back-offs follow. Each line is read alone, and all its tokens count, its end too.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.kneser_ney import ORDER, Grams, estimate, write_arpa
from models.checkpoint import load_checkpoint
from models.forward import Forward, Program, run_all
from models.language_model import LanguageModel
from models.tokenizers import Tokenizer
from training.corpora import data_name
from training.dataset import corpus_lines
from training.ngram import BOS, END, UNK, NGram
from training.running_text import RunningText, read_running_text

WEIGHTS = (0.05, 0.1, 0.15, 0.2)


def token_sentences(tokenizer: Tokenizer, paths: Sequence[Path]) -> list[np.ndarray]:
    """Return the token ids (T,) of each line of some texts: a beginning, its tokens, its end."""
    bos = tokenizer.vocab_size + 1  # behind <unk>, which never occurs
    encoded = tokenizer.encode_lines([*corpus_lines(paths, tokenised=False)])
    return [np.array([bos, *ids, tokenizer.eos_id]) for ids in encoded]


def occurrences(sentences: Sequence[np.ndarray], order: int, *, bos: int) -> list[np.ndarray]:
    """Return how often each n-gram of `estimate` occurs, by order."""
    tokens = np.concatenate(sentences).astype(np.int64)
    left = np.concatenate([np.arange(len(s), 0, -1) for s in sentences])  # tokens to the end
    counts, ids = [np.bincount(tokens, minlength=bos + 1)], tokens
    for n in range(2, order + 1):
        places = np.flatnonzero(left >= n)
        keys = ids[places] * (bos + 1) + tokens[places + n - 1]
        _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        counts.append(count)
        ids = np.full(len(tokens), -1)
        ids[places] = inverse
    return counts


def prune(grams: Sequence[Grams], counts: Sequence[np.ndarray], threshold: float) -> list[Grams]:
    """Return what is left of a model.

    Args:
        grams: The model, from one word up.
        counts: How often each of them occurs.
        threshold: Nats that an n-gram's occurrences gain by it; those that gain more stay, and
            those that they begin with.
    """
    keep = [np.ones(len(grams[0].word), dtype=bool)]
    for below, part, count in zip(grams, grams[1:], counts[1:], strict=False):
        backed_off = below.back_off[part.prefix] * below.probability[part.suffix]
        keep.append(count * np.log(part.probability / backed_off) > threshold)
    for n in range(len(grams) - 1, 1, -1):
        keep[n - 1][grams[n].prefix[keep[n]]] = True
    first = grams[0]
    pruned = [Grams(first.prefix, first.suffix, first.word, first.probability, first.back_off)]
    place, probability = np.arange(len(first.word)), first.probability
    for part, kept in zip(grams[1:], keep[1:], strict=True):
        below, context = pruned[-1], place[part.prefix]  # -1 where it is pruned
        shorter = probability[part.suffix]  # of the word behind one word less
        taken, spared = (
            np.bincount(context[kept], weights=share[kept], minlength=len(below.word))
            for share in (part.probability, shorter)
        )
        below.back_off = (1 - taken) / (1 - spared)
        backed_off = shorter * np.append(below.back_off, 1)[context]
        probability = np.where(kept, part.probability, backed_off)
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        shares = part.probability[kept], np.ones(kept.sum())
        pruned.append(Grams(context[kept], part.suffix[kept], part.word[kept], *shares))
    return pruned


def network_log_probs(model: LanguageModel, text: RunningText) -> np.ndarray:
    """Return the natural log-probability of every token (N,) of a text, each line alone."""

    def read(token_ids: Sequence[int]) -> Program[np.ndarray]:
        heard = [model.tokenizer.bos_id, *token_ids[:-1]]
        (result,) = yield [Forward(heard, None, "targets", token_ids)]
        return result.log_probs.numpy()

    lines = [line.tolist() for line in text.documents]
    return np.concatenate(run_all([read(line) for line in lines], model)).astype(np.float64)


def ngram_log_probs(model: NGram, text: RunningText) -> np.ndarray:
    """Return the same of an n-gram model of the same tokens."""
    begin = model.ids[BOS]
    flat = np.concatenate([np.array([begin, *line]) for line in text.documents])
    log_probs: np.ndarray = model.log_probs(flat)[flat != begin]
    return log_probs


def main() -> None:
    """Print a table for each text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--prune", type=float, action="append", default=[], help="a threshold")
    parser.add_argument("--order", type=int, default=ORDER)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    model = load_checkpoint(options.checkpoint)
    tokenizer = model.tokenizer
    texts = {
        data_name(path): read_running_text(path, tokenizer, lines_alone=True)
        for path in options.data
    }
    network = {name: network_log_probs(model, text) for name, text in texts.items()}
    names = [*map(str, range(tokenizer.vocab_size)), UNK, BOS]
    names[tokenizer.eos_id] = END
    bos = tokenizer.vocab_size + 1
    sentences = token_sentences(tokenizer, options.train)
    whole = estimate(sentences, bos=bos, order=options.order)
    counts = occurrences(sentences, options.order, bos=bos)
    rows: dict[str, list[str]] = {name: [] for name in texts}
    for threshold in (None, *options.prune):
        grams = whole if threshold is None else prune(whole, counts, threshold)
        with TemporaryDirectory() as folder:
            write_arpa(grams, names, path := Path(folder) / "tokens.arpa")
            ngram = NGram(path)
        left = "all" if threshold is None else f"threshold {threshold:g}"
        found = f"| {left} | {sum(len(part.word) for part in grams):,} "
        for name, text in texts.items():
            counted = ngram_log_probs(ngram, text)
            mixed = [
                np.logaddexp(math.log(w) + counted, math.log1p(-w) + network[name]) for w in WEIGHTS
            ]
            figures = [math.exp(-nats.sum() / text.words) for nats in (counted, *mixed)]
            rows[name].append(found + "".join(f"| {figure:.1f} " for figure in figures) + "|")
    head = "| n-grams | | alone " + "".join(f"| {weight:.0%} " for weight in WEIGHTS) + "|"
    for name, text in texts.items():
        alone = math.exp(-network[name].sum() / text.words)
        console.print(f"{name}: {model.name} alone {alone:.1f} per word, each line alone")
        console.print(Markdown("\n".join([head, "|---" + "|---:" * 6 + "|", *rows[name]])))


if __name__ == "__main__":
    main()
