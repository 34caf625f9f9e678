"""A typed prefix, split into what is finished and what the next word begins with."""

from dataclasses import dataclass
from functools import lru_cache

from models.tokenizers import Tokenizer


@dataclass(frozen=True)
class Prefix:
    """What has been typed of the next word.

    Attributes:
        text: All of it.
        head: Its finished units, as text: ``e-`` of ``e-ma``.
        head_ids: The same as token ids, which are read like context.
        stem: What the unit under way begins with: ``ma``; may be empty.
    """

    text: str
    head: str
    head_ids: tuple[int, ...]
    stem: str


@lru_cache(4096)  # the beginnings of words recur from key to key and from user to user
def split_prefix(tokenizer: Tokenizer, text: str, *, words_only: bool) -> Prefix:
    """Split a prefix without white space.

    ``don'`` has no finished unit, since ``don't`` is one word. A punctuation mark at the end is
    finished where only words are asked for; otherwise it is itself what the next word begins with.
    """
    # What is typed next goes on with a word: with it, the tokenizer tells whether ``don'`` is the
    # beginning of one, and lets punctuation before the word know that it touches it.
    encoding = tokenizer.encode(text + "a")
    word = encoding.words[-1]
    if not words_only and word.start == len(text):
        ending = tokenizer.encode(text)
        if ending.words:
            encoding, word = ending, ending.words[-1]
    head_ids = tuple(encoding.token_ids[: word.first])
    return Prefix(text, text[: word.start], head_ids, text[word.start :])
