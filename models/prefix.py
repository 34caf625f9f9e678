"""A typed prefix, split into what is finished and what the next word begins with."""

import re
from dataclasses import dataclass

from models.tokenizers import Encoding, Tokenizer, WordSpan
from models.tokenizers.joined import JOIN
from models.tokenizers.remembered import remembered

_JOIN = JOIN.encode()
_NUMBER = re.compile(r"\d[.,]$")  # a number that goes on, if with digits


@dataclass(frozen=True)
class Prefix:
    """What has been typed of the next word.

    Attributes:
        text: All of it.
        head: Its finished units, as text: ``e-`` of ``e-ma``.
        head_ids: The same as token ids, which are read like context.
        stem: What the unit under way begins with: ``ma``; may be empty.
        touches: The unit under way is a mark that touches what stands before it.
        begun: The bytes of tokens that the unit under way begins with.
        ended: The other way to read it: ``dogs'`` may be the beginning of ``dogs's``, or a finished
            word and a mark behind it. None where there is no other.
    """

    text: str
    head: str
    head_ids: tuple[int, ...]
    stem: str
    touches: bool
    begun: bytes
    ended: "Prefix | None" = None


@remembered(4096)  # the beginnings of words recur from key to key and from user to user
def split_prefix(tokenizer: Tokenizer, text: str, *, words_only: bool) -> Prefix:
    """Split a prefix without white space.

    ``don'`` has no finished unit, since ``don't`` is one word; its other reading, a finished word
    and a quotation mark, comes along. A punctuation mark at the end is finished where only words
    are asked for; otherwise it is itself what the next word begins with.
    """
    if text.isascii() and text.isalnum():  # to every tokenizer one word, which goes on
        return Prefix(text, "", (), text, False, tokenizer.beginning(text))
    # What is typed next goes on with a word: with it, the tokenizer tells whether ``don'`` is the
    # beginning of one, and lets punctuation before the word know that it touches it.
    encoding = tokenizer.encode(text + ("0" if _NUMBER.search(text) else "a"))
    word, ended = encoding.words[-1], None
    ending = tokenizer.encode(text)
    last = ending.words[-1] if ending.words else word
    if not words_only and word.start == len(text):
        encoding, word = ending, last
    elif word.start < last.start:
        ended = _split(tokenizer, text, ending, last)
        if tokenizer.unk_id in ended.head_ids:
            ended = None
    return _split(tokenizer, text, encoding, word, ended)


def _split(
    tokenizer: Tokenizer,
    text: str,
    encoding: Encoding,
    last: WordSpan,
    ended: Prefix | None = None,
) -> Prefix:
    head_ids, stem = tuple(encoding.token_ids[: last.first]), text[last.start :]
    touches = bool(head_ids and stem) and tokenizer.is_mark(stem)
    begun = _JOIN * touches + tokenizer.beginning(stem)
    return Prefix(text, text[: last.start], head_ids, stem, touches, begun, ended)
