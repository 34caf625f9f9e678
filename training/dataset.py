"""A corpus as token ids on disk, and as streams of shuffled documents.

The ids lie in one flat file that is memory-mapped, so a corpus may be larger than memory; each
document ends with an end of sentence. Beside it stands where each document begins.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.tokenizers import Tokenizer
from training.corpora import batched_documents, read_documents


@dataclass(frozen=True)
class Dataset:
    """Token ids of a corpus.

    Attributes:
        tokens: All documents behind one another, (N,), uint16 or uint32, memory-mapped.
        starts: Index of each document's first token, and N at the end, (documents + 1,), int64.
        bos_id: Id read before a document's first token; it is not stored.
        eos_id: Id that ends each line.
    """

    tokens: np.ndarray
    starts: np.ndarray
    bos_id: int
    eos_id: int

    def __len__(self) -> int:
        """Number N of tokens, every one of which is predicted once an epoch."""
        return len(self.tokens)

    def epoch(self, seed: int | None, *, lines_alone: float = 0.0) -> "Epoch":
        """Return the corpus with its documents in an order of this seed, or as they stand.

        Args:
            seed: Of the order, and of what ``lines_alone`` draws.
            lines_alone: Chance of each document to be taken apart into its lines, each a document.
        """
        random = np.random.default_rng(seed)
        starts = self.starts
        if lines_alone:
            apart = random.random(len(starts) - 1) < lines_alone
            ends = np.flatnonzero(self.tokens == self.eos_id)
            document = np.searchsorted(starts, ends, side="right") - 1
            starts = np.union1d(starts, ends[apart[document]] + 1)
        lengths = np.diff(starts)
        order = np.arange(len(lengths))
        if seed is not None:
            order = random.permutation(order)
        return Epoch(self, starts, order, np.concatenate([[0], np.cumsum(lengths[order])]))


@dataclass(frozen=True)
class Epoch:
    """One pass over a corpus, its documents laid behind one another in an order of their own.

    Attributes:
        starts: As those of the dataset, what is taken apart counted as so many documents.
        order: Document at each place, (documents,), int64.
        ends: Position at which each place begins, and N at the end, (documents + 1,), int64.
    """

    dataset: Dataset
    starts: np.ndarray
    order: np.ndarray
    ends: np.ndarray

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the token read before each position, the one that stands there, and its place.

        Args:
            positions: Any shape, int64, each in 0 … N - 1.

        Returns:
            Inputs and targets of the same shape, int64, and whether a document begins, bool. A
            document's first input is BOS.
        """
        place = np.searchsorted(self.ends, positions, side="right") - 1
        offset = positions - self.ends[place]
        index = self.starts[self.order[place]] + offset
        tokens = self.dataset.tokens
        before = tokens[np.maximum(index - 1, 0)].astype(np.int64)
        begins = offset == 0
        inputs = np.where(begins, self.dataset.bos_id, before)
        return inputs, tokens[index].astype(np.int64), begins


def prepare(
    path: Path,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> Dataset:
    """Tokenise a corpus file into ``folder``, or open what an earlier run left there.

    Args:
        path: The text file.
        tokenizer: Its ids are stored in uint16 where they fit.
        folder: Where to write; a changed file or tokenizer gets files of its own.
        progress: Called with the number of lines done since the last call.

    Raises:
        ValueError: The file holds no text.
    """
    key = _key(path, tokenizer)
    tokens_path, starts_path = folder / f"{key}.tokens", folder / f"{key}.starts.npy"
    dtype = np.uint16 if tokenizer.num_ids <= 2**16 else np.uint32
    if not starts_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        lengths: list[int] = []
        unfinished = tokens_path.with_suffix(".part")
        with unfinished.open("wb") as file:
            for documents in batched_documents(
                read_documents(path, tokenised=_is_tokenised(tokenizer))
            ):
                lines = [line for document in documents for line in document]
                encoded = iter(tokenizer.encode_lines(lines))
                for document in documents:
                    ids = [i for _ in document for i in (*next(encoded), tokenizer.eos_id)]
                    lengths.append(len(ids))
                    np.array(ids, dtype=dtype).tofile(file)
                progress(len(lines))
        if not lengths:
            unfinished.unlink()
            raise ValueError(f"{path} holds no text")
        unfinished.replace(tokens_path)
        with (temporary := starts_path.with_suffix(".part")).open("wb") as file:
            np.save(file, np.cumsum([0, *lengths]))
        temporary.replace(starts_path)
    tokens = np.memmap(tokens_path, dtype=dtype, mode="r")
    return Dataset(tokens, np.load(starts_path), tokenizer.bos_id, tokenizer.eos_id)


def concatenate(datasets: Sequence[Dataset], folder: Path, *, write: bool = True) -> Dataset:
    """Join corpora of one tokenizer into one, on disk; or open what another process has joined."""
    if len(datasets) == 1:
        return datasets[0]
    path = folder / "joined.tokens"
    if write:
        # Never in place: a run that has the old file mapped would die of a shrunk one.
        with (unfinished := path.with_suffix(".part")).open("wb") as file:
            for dataset in datasets:
                dataset.tokens.tofile(file)
        unfinished.replace(path)
    offsets = np.cumsum([0, *(len(dataset) for dataset in datasets)])
    starts = [d.starts[:-1] + offset for d, offset in zip(datasets, offsets[:-1], strict=True)]
    first = datasets[0]
    tokens = np.memmap(path, dtype=first.tokens.dtype, mode="r")
    return Dataset(tokens, np.concatenate([*starts, offsets[-1:]]), first.bos_id, first.eos_id)


def corpus_lines(paths: Sequence[Path], *, tokenised: bool) -> Iterator[str]:
    """Yield every line of some corpus files, for a tokenizer to learn from."""
    for path in paths:
        for document in read_documents(path, tokenised=tokenised):
            yield from document


def _is_tokenised(tokenizer: Tokenizer) -> bool:
    return tokenizer.kind == "wikitext"


def _key(path: Path, tokenizer: Tokenizer) -> str:
    stat = path.stat()
    facts = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, tokenizer.to_json()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
