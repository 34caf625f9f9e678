r"""Words and subwords of natural text, with joins kept so that every text can be restored.

A text is a row of *units*: words (letters, digits, marks, inner apostrophes: ``don't``) and other
characters, one by one. White space separates units and is written back as one space. Where two
units touch, at least one of them is not a word, and that one carries a *join mark*: at its front
where it touches its left neighbour, at its back where it touches the word on its right::

    Hello, (old) friend!   ->   Hello  ⋄,  (⋄  old  ⋄)  friend  ⋄!

so ``Hello`` is the same unit before a comma and before a space. The idea of joiner annotation is
OpenNMT's (Klein et al. 2017); the end-of-word mark is the space behind each unit, which the byte
pair encoding (Sennrich et al. 2016) merges into the last piece of a word.

The join mark is U+0001, which costs one byte; where a text itself contains it, it is escaped.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from models.errors import MismatchError
from models.tokenizers.base import BOS, EOS, UNK, Encoding, Tokenizer, WordSpan
from models.tokenizers.merges import UNCLEAR, Merges

JOIN = "\x01"
_ESCAPED = JOIN + "0"  # a digit never follows a join mark otherwise

# Character classes: marks and zero-width joiners stay with the character before them.
_MARK = r"\p{M}\x{200c}\x{200d}"
_WORD = rf"\p{{L}}\p{{N}}_{_MARK}"
_OTHER = rf"[^\s{JOIN}{_WORD}]"
_OTHER_BEHIND = rf"(?<={_OTHER}|{_OTHER}[{_MARK}]|{_OTHER}[{_MARK}][{_MARK}])"
_INNER_APOSTROPHE = rf"(?<=[{_WORD}])['’](?=[\p{{L}}\p{{N}}])"
_TOUCHES_LEFT = rf"(?<=\S)(?!{_INNER_APOSTROPHE})(?={_OTHER})"
_TOUCHES_RIGHT = rf"{_OTHER_BEHIND}(?<![{_WORD}]['’])(?=[\p{{L}}\p{{N}}_])"

# Between white space as the normalizer knows it; see `_is_space`.
_PARTS = re.compile(r"[\S\x1c-\x1f]+")
_MOST_PARTS = 1 << 15  # some ten megabytes at most
_LONG_PART = 24  # characters; one as long as this is not remembered

_JOINS = re.compile(rf"{JOIN}? {JOIN}(?!0)|{JOIN} ")


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(left=True, right=False),
            normalizers.Replace(JOIN, _ESCAPED),
            normalizers.Replace(Regex(_TOUCHES_LEFT), f" {JOIN}"),
            normalizers.Replace(Regex(_TOUCHES_RIGHT), f"{JOIN} "),
        ]
    )


def _restore(units: str) -> str:
    """Undo the annotation of ``units``, each followed by its space; one space may remain behind."""
    return _JOINS.sub("", units).replace(_ESCAPED, JOIN)


def _is_space(character: str) -> bool:
    r"""Return whether Unicode, and so the normalizer, calls it white space.

    Python's own `str.isspace` counts the four ASCII separators too.
    """
    return character.isspace() and not "\x1c" <= character <= "\x1f"


def _is_accent(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


class JoinedTokenizer(Tokenizer):
    """What ``word`` and ``subword`` share: units, joins and offsets."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Look up the special tokens."""
        super().__init__(backend)
        self._remembered_part = lru_cache(_MOST_PARTS)(self._encode_part)
        self.bos_id = self._special(BOS)
        self.eos_id = self._special(EOS)
        self.vocab_size = self.bos_id
        if backend.get_vocab_size() != self.bos_id + 1:
            raise MismatchError(f"tokenizer.json: the token {BOS!r} is not the last")

    def encode(self, text: str) -> Encoding:
        """Encode natural text; a space behind it marks the end of its last word."""
        encoded = self._backend.encode(text + " ", add_special_tokens=False)
        token_ids: list[int] = encoded.ids
        offsets = encoded.offsets
        words = []
        first = end = 0
        for last, token_id in enumerate(token_ids, start=1):
            if self.is_word_end[token_id]:
                # An inserted mark has the offset of the character before it; cut it off again.
                start = max(end, offsets[first][0])
                end = max(start, min(offsets[last - 1][1], len(text)))
                while start < end and _is_space(text[start]):
                    start += 1
                while start < end and _is_space(text[end - 1]):
                    end -= 1
                words.append(WordSpan(start, end, first, last))
                first = last
        return Encoding(token_ids, words)

    def encode_ids(self, text: str) -> list[int]:
        """Return `encode`'s token ids alone, part by part between white space.

        No unit, join or piece reaches beyond a part, and most were met before.
        """
        ids: list[int] = []
        for part in _PARTS.findall(text):
            encode = self._remembered_part if len(part) < _LONG_PART else self._encode_part
            ids += encode(part)
        return ids

    def _encode_part(self, part: str) -> list[int]:
        ids: list[int] = self._backend.encode(part + " ", add_special_tokens=False).ids
        return ids

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Encode many lines on all cores."""
        batch = self._backend.encode_batch_fast(
            [line + " " for line in lines], add_special_tokens=False
        )
        return [encoded.ids for encoded in batch]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Restore natural text; bytes that are not UTF-8 become U+FFFD."""
        units = b"".join([self._written[i] for i in token_ids])
        # The space in front lets a first unit that joins its left neighbour join nothing.
        text = _restore(" " + units.decode(errors="replace"))
        return text.removeprefix(" ").removesuffix(" ")

    @cached_property
    def _written(self) -> list[bytes]:
        """What each token id writes: its piece, a space behind a word; BOS and EOS nothing."""
        written = [
            piece + b" " if ends else piece
            for piece, ends in zip(self.pieces, self.is_word_end.tolist(), strict=True)
        ]
        written.append(b"")  # BOS
        written[self.eos_id] = b""
        return written

    def surface(self, word: bytes) -> str:
        """Return the unit without its join marks."""
        return _restore(f" {word.decode(errors='replace')} ").strip(" ")

    def is_mark(self, beginning: str) -> bool:
        """Return whether a unit that begins so is one character that is none of a word's."""
        first = beginning[:1]
        of_words = first.isalnum() or first in f"_{JOIN}\u200c\u200d" or _is_accent(first)
        return not of_words

    def beginning(self, text: str) -> bytes:
        """As any tokenizer's, a join mark in the text escaped."""
        return text.replace(JOIN, _ESCAPED).encode()

    @cached_property
    def opens_word(self) -> np.ndarray:
        """As any tokenizer's; a word may also begin with an escaped join mark."""
        escaped = (JOIN.encode(), _ESCAPED.encode())
        begins = np.array([p == escaped[0] or p.startswith(escaped[1]) for p in self.pieces])
        found: np.ndarray = super().opens_word | begins & ~self.is_word_end
        return found

    def spellings(self, word: str) -> list[list[int]]:
        """Return one spelling of words, four of a single other character."""
        whole = self.encode(word)
        found = [whole.token_ids]
        if len(whole.words) == 1 and not self.is_word(word):
            # Neighbours that the character touches or not: cut it out of a text that has them.
            # Not a letter on the left, for between two letters an apostrophe is part of a word.
            for left, right in (("(", ""), ("", "a"), ("(", "a")):
                encoding = self.encode(left + word + right)
                if len(encoding.words) == 1 + len(left) + len(right):  # a lone accent attaches
                    span = encoding.words[len(left)]
                    found.append(encoding.token_ids[span.first : span.last])
        return [ids for i, ids in enumerate(found) if ids and ids not in found[:i]]


class SubwordTokenizer(JoinedTokenizer):
    """Byte-level BPE whose last piece of a word carries the space behind it."""

    kind: ClassVar[str] = "subword"
    unk_id = None

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Tabulate the pieces as bytes."""
        super().__init__(backend)
        symbols = _byte_symbols()
        tokens = [backend.id_to_token(i) or "" for i in range(self.vocab_size)]
        if {*"".join(tokens)} - {*symbols} or {*symbols} - {*tokens}:
            raise MismatchError("tokenizer.json: the tokens are not made of the 256 bytes")
        whole = [
            b"" if i == self.eos_id else bytes(symbols[symbol] for symbol in token)
            for i, token in enumerate(tokens)
        ]
        self.is_word_end = np.array([piece.endswith(b" ") for piece in whole])
        self.pieces = [piece.removesuffix(b" ") for piece in whole]

    @cached_property
    def merges(self) -> Merges:
        """How its tokens grew out of bytes."""
        return Merges.of(self.to_json(), self.vocab_size)

    @cached_property
    def pairs_spell(self) -> bool:
        """As any tokenizer's: where nothing but merges, each clear, makes tokens of a word."""
        if (self.merges.last == UNCLEAR).any():
            return False
        mine, trained = json.loads(self.to_json()), json.loads(_blank().to_str())
        if any(mine[part] != trained[part] for part in ("normalizer", "pre_tokenizer")):
            return False
        for i, rank in enumerate(self.merges.rank.tolist()):
            token = self._backend.id_to_token(i) or ""
            grown = rank >= 0 or len(token) == 1
            if i != self.eos_id and not (grown and self._encoded(token) == [i]):
                return False
        return True

    def _encoded(self, token: str) -> list[int]:
        return [t.id for t in self._backend.model.tokenize(token)]

    @classmethod
    def train(cls, lines: Iterable[str], *, vocab_size: int) -> "SubwordTokenizer":
        """Learn the merges from ``lines``; ``vocab_size`` counts EOS and the 256 bytes."""
        backend = _blank()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[EOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(_spaced(lines), trainer)
        return cls(add_special_tokens(backend, [BOS]))


def _blank() -> tokenizers.Tokenizer:
    """Return byte-level BPE that has learnt no merges."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.normalizer = _normalizer()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return backend


class WordTokenizer(JoinedTokenizer):
    """One token a unit; units outside the vocabulary are ``<unk>``."""

    kind: ClassVar[str] = "word"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Tabulate the units as bytes."""
        super().__init__(backend)
        self.unk_id = self._special(UNK)
        tokens = [backend.id_to_token(i) or "" for i in range(self.vocab_size)]
        self.is_word_end = np.array([i != self.eos_id for i in range(self.vocab_size)])
        self.pieces = [token.encode() for token in tokens]
        self.pieces[self.eos_id] = b""

    @classmethod
    def train(cls, lines: Iterable[str], *, vocab_size: int) -> "WordTokenizer":
        """Take the most frequent units of ``lines``; ``vocab_size`` counts EOS and ``<unk>``."""
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token=UNK))
        backend.normalizer = _normalizer()
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
        trainer = tokenizers.trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=[EOS, UNK], show_progress=False
        )
        backend.train_from_iterator(_spaced(lines), trainer)
        return cls(add_special_tokens(backend, [BOS]))

    def spellings(self, word: str) -> list[list[int]]:
        """Return the spellings that hold no ``<unk>``; none for a word outside the vocabulary."""
        return [ids for ids in super().spellings(word) if self.unk_id not in ids]


def _spaced(lines: Iterable[str]) -> Iterator[str]:
    return (line + " " for line in lines)


def _byte_symbols() -> dict[str, int]:
    """Return the byte of each symbol of byte-level BPE (Radford et al. 2019).

    Printable Latin-1 stands for itself; the other bytes are U+0100 and following, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }


def add_special_tokens(
    backend: tokenizers.Tokenizer, tokens: Sequence[str]
) -> tokenizers.Tokenizer:
    """Return ``backend`` with ``tokens`` at the end of its vocabulary, unreachable from any text.

    They are entries of the vocabulary but not "added tokens", which the library would look for in
    what users write: the text ``</s>`` must stay four characters.
    """
    state = json.loads(backend.to_str())
    state["added_tokens"] = []
    vocab = state["model"]["vocab"]
    for token in tokens:
        vocab[token] = len(vocab)
    return tokenizers.Tokenizer.from_str(json.dumps(state))
