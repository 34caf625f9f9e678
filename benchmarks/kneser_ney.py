r"""An n-gram model of a text, written as ARPA.

Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1999, section 4.1, as Heafield et al.
2013 write it out): lower orders count in how many contexts a word stands rather than how often,
each order has three discounts of its own, nothing is pruned, and the unigrams are interpolated with
the uniform distribution over the vocabulary.

::

    python -m benchmarks.kneser_ney --data dialogue/train.txt --data sentences/train.txt \
        --data wikitext-2/train.txt --out 5-gram.arpa

The text is read as training reads it, each line a sentence. Words are the units of the ``word``
tokenizer: cased, punctuation apart with its join marks, the 50,000 most frequent that occur twice
at least. The others are ``<unk>``, whose share of the text is what new words may expect; a second
model, beside the first, spells them: the same smoothing over the bytes of those of the text that
occur once, or of all unknown ones, without join marks, where the 50,000 leave none of those.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.tokenizers import Tokenizer, train_tokenizer
from training.dataset import corpus_lines
from training.ngram import BOS, END, SPELLING, UNK
from training.ngram_evaluation import unit_name

ORDER, VOCABULARY = 5, 50_000
_END, _BEGIN = 256, 258  # of a word, behind all bytes; between them <unk>, which never occurs
_FEWEST = 2  # times that a word of the vocabulary occurs
_FALLBACK = (0.5, 1.0, 1.5)  # discounts of counts so few that they tell none, as Heafield's lmplz


@dataclass
class Grams:
    """All n-grams of one order, N of them.

    Attributes:
        prefix: Each one's first n - 1 words, as an index among those of the order below, (N,).
        suffix: Its last n - 1 words, likewise, (N,).
        word: Its last word, (N,).
        probability: Of that word behind the others, (N,).
        back_off: Share of probability that its own continuations leave to the order below, (N,).
    """

    prefix: np.ndarray
    suffix: np.ndarray
    word: np.ndarray
    probability: np.ndarray
    back_off: np.ndarray


def estimate(sentences: Sequence[np.ndarray], *, bos: int, order: int = ORDER) -> list[Grams]:
    """Return the n-grams of orders 1 to ``order``.

    Args:
        sentences: Token ids (T,) of each: BOS, words, and the end of the sentence.
        bos: The id that begins them, higher than all others; never predicted.
        order: The highest.
    """
    tokens = np.concatenate(sentences).astype(np.int64)
    left = np.concatenate([np.arange(len(s), 0, -1) for s in sentences])  # tokens to the end
    size = bos + 1
    ids = np.arange(size)[tokens]
    grams = [Grams(*np.zeros((2, size), dtype=np.int64), np.arange(size), *np.ones((2, size)))]
    counts, firsts = [np.bincount(tokens, minlength=size)], [np.full(size, 0)]
    firsts[0][tokens] = np.arange(len(tokens))
    for n in range(2, order + 1):
        places = np.flatnonzero(left >= n)
        keys = ids[places] * size + tokens[places + n - 1]
        unique, first, inverse, count = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        below, ids = ids, np.full(len(tokens), -1)
        ids[places] = inverse
        ones = np.ones((2, len(unique)))
        suffix = below[places[first] + 1]
        grams.append(Grams(unique // size, suffix, unique % size, *ones))
        counts.append(count)
        firsts.append(places[first])
    for n in range(1, order):  # adjusted: contexts on the left, but for what begins a sentence
        contexts = np.bincount(grams[n].suffix, minlength=len(counts[n - 1]))
        begins = tokens[firsts[n - 1]] == bos
        counts[n - 1] = np.where(begins, counts[n - 1], contexts)
    counts[0][bos] = 0
    for n in range(order):
        below_grams = grams[n - 1] if n else None
        _smooth(grams[n], counts[n], below_grams, words=bos)
    return grams


def _smooth(grams: Grams, counts: np.ndarray, below: Grams | None, *, words: int) -> None:
    """Set the probabilities of one order, and the back-offs of the order below."""
    discount = _discounts(counts)[np.minimum(counts, 3)]
    contexts = 1 if below is None else len(below.word)
    prefix = np.zeros(len(counts), dtype=np.int64) if below is None else grams.prefix
    total = np.bincount(prefix, weights=counts, minlength=contexts)
    taken = np.bincount(prefix, weights=discount, minlength=contexts)
    left = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
    own = (counts - discount) / np.maximum(total[prefix], 1)
    if below is None:
        grams.probability = own + left[0] / words
        grams.probability[words] = 0  # BOS
    else:
        grams.probability = own + left[prefix] * below.probability[grams.suffix]
        below.back_off = left


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return what is taken from a count of 0, 1, 2, and 3 or more, (4,)."""
    tally = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)[1:5]  # of 1, 2, 3, 4
    if not tally[:3].all():
        return np.array([0, *_FALLBACK])
    ratio = tally[0] / (tally[0] + 2 * tally[1])
    k = np.arange(1, 4)
    found = np.clip(k - (k + 1) * ratio * tally[1:] / tally[:3], 0, k)
    return np.concatenate([[0], found])


def write_arpa(grams: Sequence[Grams], words: Sequence[str], path: Path) -> None:
    """Write the model, ``words`` (V + 1,) being the tokens as text, BOS the last."""
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={len(part.word)}\n" for n, part in enumerate(grams, 1))
        texts: list[str] = []
        for n, part in enumerate(grams, 1):
            file.write(f"\n\\{n}-grams:\n")
            last = [words[i] for i in part.word.tolist()]
            if n > 1:
                pairs = zip(part.prefix.tolist(), last, strict=True)
                last = [f"{texts[prefix]} {word}" for prefix, word in pairs]
            texts = last
            file.writelines(_lines(part, texts, closes=n == len(grams)))
        file.write("\n\\end\\\n")


def _lines(part: Grams, texts: Sequence[str], *, closes: bool) -> Iterator[str]:
    log_probs = np.log10(np.maximum(part.probability, 1e-99)).tolist()
    back_offs = np.log10(np.maximum(part.back_off, 1e-99)).tolist()
    for text, log_prob, back_off in zip(texts, log_probs, back_offs, strict=True):
        yield f"{log_prob:.6f}\t{text}\n" if closes else f"{log_prob:.6f}\t{text}\t{back_off:.6f}\n"


def write_models(lines: Sequence[str], out: Path, *, order: int, vocabulary: int) -> list[Grams]:
    """Write the model of some lines, and what spells its unknown words; return the former."""
    tokenizer = train_tokenizer("word", lines, vocab_size=vocabulary)
    encoded = [np.array(ids, dtype=np.int64) for ids in tokenizer.encode_lines(lines)]
    counts = np.bincount(np.concatenate(encoded), minlength=tokenizer.vocab_size)
    known = counts >= _FEWEST
    known[[tokenizer.eos_id, tokenizer.unk_id]] = True
    names = np.array([*map(unit_name, tokenizer.pieces)], dtype=object)
    names[[tokenizer.eos_id, tokenizer.unk_id]] = END, UNK
    new = np.full(len(names), np.flatnonzero(known).searchsorted(tokenizer.unk_id))
    new[known] = np.arange(known.sum())
    bos, eos = int(known.sum()), new[tokenizer.eos_id]
    grams = estimate([np.array([bos, *new[ids], eos]) for ids in encoded], bos=bos, order=order)
    write_arpa(grams, [*names[known], BOS], out)

    words = [*names[~known]] or sorted(set(unknown_words(tokenizer, lines)))
    path = out.with_name(out.stem + SPELLING)
    path.unlink(missing_ok=True)  # of another text
    if words:
        write_speller(words, path, order=order)
    return grams


def write_speller(words: Sequence[str], path: Path, *, order: int = ORDER) -> None:
    """Write the model of the bytes of some words; all bytes can come, seen or not."""
    names = [*(f"{byte:02x}" for byte in range(256)), END, UNK, BOS]
    write_arpa(estimate([*map(spelled, words)], bos=_BEGIN, order=order), names, path)


def spelled(word: str) -> np.ndarray:
    """Return the ids of a word (T,), its beginning and end among them, to a model of bytes."""
    return np.array([_BEGIN, *word.encode(), _END])


def unknown_words(tokenizer: Tokenizer, lines: Sequence[str]) -> Iterator[str]:
    """Yield the words of some lines that a tokenizer does not know, as often as they occur."""
    for line, ids in zip(lines, tokenizer.encode_lines(lines), strict=True):
        if tokenizer.unk_id in ids:
            encoding = tokenizer.encode(line)
            for word in encoding.words:
                if encoding.token_ids[word.first] == tokenizer.unk_id:
                    yield line[word.start : word.end]


def main() -> None:
    """Build a model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--order", type=int, default=ORDER)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    options = parser.parse_args()
    lines = [*corpus_lines(options.data, tokenised=False)]
    grams = write_models(lines, options.out, order=options.order, vocabulary=options.vocabulary)
    sizes = ", ".join(f"{len(part.word):,}" for part in grams)
    print(f"{options.out}: {len(lines):,} sentences; n-grams of orders 1 to {len(grams)}: {sizes}")


if __name__ == "__main__":
    main()
