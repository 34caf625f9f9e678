"""A text to be evaluated: its tokens as a model reads them, its words and characters counted."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.tokenizers import Tokenizer
from training.corpora import batched_documents, corpus_format, read_documents


@dataclass(frozen=True)
class RunningText:
    """Documents of token ids, in their order.

    Attributes:
        tokens: All of them behind one another, each line's end of sentence included, (N,), int32.
        starts: Index of each document's first token, and N at the end, (documents + 1,), int64.
        lines: Lines, each of which ends in an end of sentence.
        words: White-space separated words.
        characters: Characters of the lines without white space around them, and a line break each.
        unknown: Tokens that stand for a word outside the vocabulary.
        remark: How the file was read, for people.
    """

    tokens: np.ndarray
    starts: np.ndarray
    lines: int
    words: int
    characters: int
    unknown: int
    remark: str

    @property
    def documents(self) -> list[np.ndarray]:
        """Token ids of each document, without BOS."""
        return [self.tokens[start:end] for start, end in pairwise(self.starts)]


def read_running_text(
    path: Path, tokenizer: Tokenizer, *, lines_alone: bool = False
) -> RunningText:
    """Read a corpus file as it stands.

    For a ``wikitext`` tokenizer that is every line of the file, ``<unk>`` and empty lines too, in a
    single document: the classic benchmark carries its state through the whole text. Otherwise
    documents are those of `training.corpora`, each beginning anew with BOS.

    Args:
        path: A text file in one of the formats of `training.corpora`.
        tokenizer: Of the model that is measured.
        lines_alone: Every line is a document of its own, the setting of n-gram models.

    Raises:
        ValueError: The file holds no text, or is not UTF-8.
    """
    tokenised = tokenizer.kind == "wikitext"
    parts: list[np.ndarray] = []
    lengths: list[int] = []
    lines = words = characters = 0
    for documents in batched_documents(read_documents(path, tokenised=tokenised)):
        texts = [line for document in documents for line in document]
        encoded = iter(tokenizer.encode_lines(texts))
        for document in documents:
            ids = [[*next(encoded), tokenizer.eos_id] for _ in document]
            parts += [np.array(line, dtype=np.int32) for line in ids]
            sizes = [len(line) for line in ids]
            lengths += sizes if lines_alone else [sum(sizes)]
        lines += len(texts)
        words += sum(len(text.split()) for text in texts)
        characters += sum(len(text.strip()) + 1 for text in texts)
    if not words:
        raise ValueError(f"{path} holds no text")
    tokens = np.concatenate(parts)
    whole = tokenised and not lines_alone
    starts = np.array([0, len(tokens)]) if whole else np.cumsum([0, *lengths])
    unknown = 0 if tokenizer.unk_id is None else int((tokens == tokenizer.unk_id).sum())
    remark = _remark(path, tokenised=tokenised, lines_alone=lines_alone)
    return RunningText(tokens, starts, lines, words, characters, unknown, remark)


def _remark(path: Path, *, tokenised: bool, lines_alone: bool) -> str:
    undone = "WikiText's tokenisation undone, sentences with <unk> and headings left out; "
    anew = "each line begins anew"
    if tokenised:
        carried = "the state carried through the whole file"
        return f"all lines as they stand, {anew if lines_alone else carried}"
    style = corpus_format(path)
    if lines_alone:
        return (undone if style == "wikitext" else "") + anew
    return {
        "wikitext": f"{undone}each run of sentences begins anew",
        "blocks": "the state carried from line to line; each block of lines begins anew",
        "lines": anew,
    }[style]
