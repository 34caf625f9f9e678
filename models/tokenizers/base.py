"""What every tokenizer answers, whatever its kind."""

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import tokenizers

from models.errors import CorruptFileError, MismatchError
from models.tokenizers.merges import Merges

EOS = "</s>"
BOS = "<s>"
UNK = "<unk>"
_MOST_CONTEXTS = 256  # texts that were read last: some megabytes even if all are long


@dataclass(frozen=True)
class WordSpan:
    """One word of an encoded text.

    Attributes:
        start: Offset of its first character in the text.
        end: Offset behind its last character.
        first: Index of its first token in the encoding.
        last: Index behind its last token.
    """

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Encoding:
    """A text as token ids, and which of them make up which word."""

    token_ids: list[int]
    words: list[WordSpan]


class Tokenizer(ABC):
    """Text to token ids and back.

    Every word ends in exactly one token whose ``is_word_end`` is true, so the probability of a word
    is the product of the probabilities of its pieces and no two words share a beginning that is
    itself a word.

    Attributes:
        vocab_size: Number V of token ids that can be predicted: 0 … V - 1.
        bos_id: Id read at the start of a text. Where it equals ``vocab_size`` it is only ever read,
            never predicted; a ``wikitext`` tokenizer reads its end-of-sentence instead.
        eos_id: Id that ends a sentence. It belongs to no word.
        unk_id: Id of all words outside the vocabulary, or None where no text is unknown.
        is_word_end: Shape (V,), bool: the token is the last of its word.
        pieces: The V tokens as bytes of text, without end-of-word marks; join marks included.
    """

    kind: ClassVar[str]
    vocab_size: int
    bos_id: int
    eos_id: int
    unk_id: int | None
    is_word_end: np.ndarray
    pieces: list[bytes]

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wrap a Hugging Face tokenizer; raises MismatchError where its vocabulary is unfit."""
        self._backend = backend
        # What recurs from key to key and from user to user; callers change none of it.
        self.remembered_context = lru_cache(_MOST_CONTEXTS)(self.encode_context)
        ids = backend.get_vocab().values()
        if sorted(ids) != list(range(len(ids))):
            raise MismatchError("tokenizer.json: the token ids are not 0, 1, 2 and so on")

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Read what `to_json` wrote."""
        return cls(_parse(text))

    def to_json(self) -> str:
        """Return the whole tokenizer as one JSON text in the Hugging Face format."""
        return self._backend.to_str()

    @property
    def num_ids(self) -> int:
        """Number of token ids that can be read: ``vocab_size``, plus one where BOS has its own."""
        return max(self.vocab_size, self.bos_id + 1)

    def _special(self, token: str) -> int:
        found = self._backend.token_to_id(token)
        if found is None:
            raise MismatchError(f"tokenizer.json: the token {token!r} is missing")
        return found

    @abstractmethod
    def encode(self, text: str) -> Encoding:
        """Encode natural text. White space only separates words; no BOS or EOS is added."""

    def encode_ids(self, text: str) -> list[int]:
        """Return `encode`'s token ids alone, which is faster."""
        return self.encode(text).token_ids

    @abstractmethod
    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Encode lines of a corpus in the corpus' own form, many at a time."""

    @abstractmethod
    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the natural text of ``token_ids``; BOS and EOS are left out.

        Whole words stand as they are, whatever comes behind them.
        """

    @abstractmethod
    def surface(self, word: bytes) -> str:
        """Return how the finished word of these ``pieces`` reads, without any join mark."""

    def beginning(self, text: str) -> bytes:
        """Return the bytes of its pieces that a word beginning with ``text`` begins with."""
        return text.encode()

    @abstractmethod
    def spellings(self, word: str) -> list[list[int]]:
        """Return the distinct token sequences that read as ``word``.

        A word has one; a punctuation mark has one for each way of joining its neighbours. Several
        words in a row ("New York") are one sequence of several words.
        """

    def encode_context(self, text: str) -> list[int]:
        """Encode text that is read but not scored: BOS, then the text, each line break an EOS.

        A line break is a line feed, a carriage return, or both; several count as one.
        """
        token_ids = [self.bos_id]
        for i, line in enumerate(re.split(r"\r\n|[\r\n]", text)):
            if i and token_ids[-1] not in (self.bos_id, self.eos_id):
                token_ids.append(self.eos_id)
            token_ids += self.encode_ids(line)
        return token_ids

    def is_word(self, surface: str) -> bool:
        """Return whether ``surface`` is a word rather than punctuation: has a letter or a digit."""
        return any(map(str.isalnum, surface))

    def is_mark(self, beginning: str) -> bool:
        """Return whether what begins so can only be that one mark; False where it is not known."""
        return False

    @cached_property
    def typed(self) -> list[bytes]:
        """The V tokens as the bytes that are typed of them; none of those that nobody types."""
        return [b"" if i in (self.eos_id, self.unk_id) else p for i, p in enumerate(self.pieces)]

    @cached_property
    def _ways_spelled(self) -> np.ndarray:
        """Shape (V,), int64: how many spellings its text has, for a whole word that is among them.

        0 for all other tokens.
        """
        found = self.is_word_end.astype(np.int64)
        for i in np.flatnonzero(found):
            if self.pairs_spell and self.pieces[i].isalnum():
                continue  # ASCII: it has one, of a single token
            surface = self.surface(self.pieces[i]) if i not in (self.eos_id, self.unk_id) else ""
            spellings = self.spellings(surface) if surface else []
            found[i] = len(spellings) if [int(i)] in spellings else 0
        return found

    @cached_property
    def suggestible(self) -> np.ndarray:
        """Shape (V,), bool: the token is, alone, a whole word that `spellings` also writes so."""
        found: np.ndarray = self._ways_spelled > 0
        return found

    @cached_property
    def spelled_once(self) -> np.ndarray:
        """Shape (V,), bool: the ``suggestible`` tokens whose text has no other spelling."""
        found: np.ndarray = self._ways_spelled == 1
        return found

    @cached_property
    def single_words(self) -> np.ndarray:
        """Shape (V,), bool: the ``suggestible`` tokens that are words, not punctuation."""
        found = self.suggestible.copy()
        for i in np.flatnonzero(found):
            found[i] = self.is_word(self.surface(self.pieces[i]))
        return found

    @cached_property
    def single_ids(self) -> np.ndarray:
        """The ids that are true in ``single_words``, int64."""
        return np.flatnonzero(self.single_words)

    @cached_property
    def is_piece(self) -> np.ndarray:
        """Shape (V,), bool: all tokens but EOS."""
        found: np.ndarray = np.arange(self.vocab_size) != self.eos_id
        return found

    @cached_property
    def word_ends(self) -> np.ndarray:
        """Shape (V,), float32: ``is_word_end`` less EOS as a weight."""
        weights: np.ndarray = (self.is_word_end & self.is_piece).astype(np.float32)
        return weights

    @cached_property
    def word_starts(self) -> np.ndarray:
        """Shape (V,), bool: the token is a word, or one, not punctuation, may begin with it."""
        found: np.ndarray = self.single_words | self.opens_word
        return found

    @cached_property
    def unit_starts(self) -> np.ndarray:
        """Shape (V,), bool: the token is a word or punctuation, or one may begin with it."""
        found: np.ndarray = (self.suggestible | ~self.is_word_end) & self.is_piece
        return found

    @cached_property
    def opens_word(self) -> np.ndarray:
        """Shape (V,), bool: an unfinished piece that a word, not punctuation, can begin with.

        A superset: characters beyond ASCII are not told apart.
        """
        firsts = (piece[:1] for piece in self.pieces)
        opens = np.array([first.isalnum() or first == b"_" or first >= b"\x80" for first in firsts])
        found: np.ndarray = opens & ~self.is_word_end
        found[self.eos_id] = False
        return found

    @cached_property
    def merges(self) -> Merges:
        """How its tokens grew; of tokens that did not, none."""
        return Merges(self.vocab_size, [])

    @cached_property
    def pairs_spell(self) -> bool:
        """Whether it writes each row of pieces of ASCII letters and digits whose pairs it writes.

        That is, each where no piece is followed by one that ``merges`` says never follows it; a
        single piece always.
        """
        return False

    @cached_property
    def alphabetical(self) -> tuple[list[bytes], np.ndarray]:
        """What is ``typed`` of tokens in byte order, and their ids, for `completions`."""
        typed = self.typed
        ids = sorted((i for i, piece in enumerate(typed) if piece), key=typed.__getitem__)
        return [typed[i] for i in ids], np.array(ids, dtype=np.int32)

    def completions(self, rest: bytes) -> np.ndarray:
        """Return the ids of all tokens that are typed so from ``rest`` on, which is not empty."""
        pieces, ids = self.alphabetical
        first = bisect_left(pieces, rest)
        return ids[first : bisect_left(pieces, rest + b"\xff\xff\xff\xff", lo=first)]

    @cached_property
    def unfinished(self) -> dict[bytes, list[int]]:
        """The ids of non-empty pieces that end no word, by their bytes."""
        found: dict[bytes, list[int]] = {}
        for i in np.flatnonzero(~self.is_word_end).tolist():
            if self.pieces[i]:
                found.setdefault(self.pieces[i], []).append(i)
        return found

    def beginnings(self, rest: bytes) -> list[int]:
        """Return the ids of unfinished pieces that ``rest`` begins with, but not all of it."""
        found = (self.unfinished.get(rest[:length], ()) for length in range(1, len(rest)))
        return [i for ids in found for i in ids]


def _parse(text: str) -> tokenizers.Tokenizer:
    # The library raises plain Exception, and panics (a BaseException) on some malformed input.
    try:
        return tokenizers.Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise CorruptFileError(f"tokenizer.json: not a tokenizer ({error})") from None
