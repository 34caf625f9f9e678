"""From text files to documents, each a list of lines; a line ends with an end of sentence.

A file has one of three formats, which is seen from its beginning:

- ``wikitext``: whitespace-tokenised articles that begin with `` = Title = ``;
- ``blocks``: documents of several lines, a blank line between them;
- ``lines``: one document a line.

Lines may end as on Windows, a byte order mark is skipped, and the last line may lack its end.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from sacremoses import MosesDetokenizer

_TITLE = re.compile(r"^ ?= [^=].* =\s*$")
_AT = re.compile(r" ?@([-,.])@ ?")
_SNIFFED_LINES = 2000
_BATCH_LINES = 20_000


def data_name(path: Path) -> str:
    """Return how a text file is called in reports: ``dialogue/valid``."""
    resolved = path.resolve()
    return f"{resolved.parent.name}/{resolved.stem}".removeprefix("/")


def corpus_format(path: Path) -> str:
    """Return ``wikitext``, ``blocks`` or ``lines`` from the first lines of the file."""
    head = list(islice(read_lines(path), _SNIFFED_LINES))
    if any(_TITLE.match(line) for line in head[:10]):
        return "wikitext"
    inner = "\n".join(head).strip().split("\n")
    return "blocks" if any(not line.strip() for line in inner) else "lines"


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file as they stand, without their ends.

    Raises:
        ValueError: A line is not UTF-8; the message names file and line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise ValueError(f"{path} is not UTF-8 text: see line {number}") from None
            yield (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")


def read_documents(path: Path, *, tokenised: bool = False) -> Iterator[list[str]]:
    """Yield the documents of a corpus file.

    Args:
        path: A UTF-8 text file.
        tokenised: Give every line as it stands, empty ones too, for a tokenizer of whitespace-
            separated words; a document is an article, or a line where no title marks articles.
            Otherwise WikiText-style files give their running text, the tokenisation undone and
            without sentences that hold ``<unk>``.

    Raises:
        ValueError: The file is not UTF-8.
    """
    style = corpus_format(path)
    lines = read_lines(path)
    if tokenised:
        yield from _articles(lines) if style == "wikitext" else ([line] for line in lines)
    elif style == "wikitext":
        yield from _running_text(lines)
    elif style == "blocks":
        yield from _blocks(lines)
    else:
        yield from ([line] for line in lines if line.strip())


def read_whole_documents(path: Path) -> Iterator[list[str]]:
    """Yield documents as their readers have them, lines of natural text in their order.

    A WikiText article is one, without headings and the sentences that hold ``<unk>``; a block is
    one; and a file of lines is one, in which what stands before a line is its history.

    Raises:
        ValueError: The file is not UTF-8.
    """
    style = corpus_format(path)
    if style == "wikitext":
        articles = (list(_running_text(article)) for article in _articles(read_lines(path)))
        yield from ([line for run in runs for line in run] for runs in articles if runs)
    elif style == "blocks":
        yield from read_documents(path)
    else:
        yield [line for document in read_documents(path) for line in document]


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _articles(lines: Iterable[str]) -> Iterator[list[str]]:
    article: list[str] = []
    for line in lines:
        if _TITLE.match(line) and article:
            yield article
            article = []
        article.append(line)
    if article:
        yield article


def _running_text(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield runs of neighbouring sentences without ``<unk>``, one natural sentence a line."""
    detokenizer = MosesDetokenizer(lang="en")
    for line in lines:
        if line.strip().startswith("="):
            continue
        run: list[str] = []
        for sentence in _sentences(line.split()):
            if "<unk>" not in sentence:
                text = detokenizer.detokenize(sentence, unescape=False)
                run.append(_AT.sub(r"\1", text))
            elif run:
                yield run
                run = []
        if run:
            yield run


def _sentences(tokens: list[str]) -> Iterator[list[str]]:
    """Split a paragraph behind ``.``, ``!`` and ``?`` (abbreviations keep their own full stop)."""
    start = 0
    for i, token in enumerate(tokens):
        closes = i + 1 < len(tokens) and tokens[i + 1] in ('"', "'", ")")
        closed = token in ('"', "'", ")") and i > 0 and tokens[i - 1] in (".", "!", "?")
        if closed or (token in (".", "!", "?") and not closes):
            yield tokens[start : i + 1]
            start = i + 1
    if start < len(tokens):
        yield tokens[start:]


def batched_documents(documents: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the documents in batches of about 20,000 lines, to be encoded together."""
    batch: list[list[str]] = []
    lines = 0
    for document in documents:
        batch.append(document)
        lines += len(document)
        if lines >= _BATCH_LINES:
            yield batch
            batch, lines = [], 0
    if batch:
        yield batch
