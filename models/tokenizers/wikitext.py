"""The whitespace-tokenised style of WikiText-2 (Merity et al. 2016), for natural text too.

The corpus was tokenised with the Moses rules, and marks punctuation that joins two halves of a
word with ``@``: ``play @-@ off``, ``1 @,@ 500``, ``3 @.@ 5``. Natural text goes the same way in
(`sacremoses` plus the ``@`` marks) and comes back out as natural text.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from models.tokenizers.base import UNK, Encoding, Tokenizer, WordSpan
from models.tokenizers.joined import add_special_tokens

EOS = "<eos>"

_NUMBER_JOIN = re.compile(r"(?<=\d)([,.])(?=\d)")
_HIDDEN = re.compile(r" ?\ue000([-,.])\ue000 ?")
_CONTROL = re.compile(r"[\x00-\x1f]")
_JOINED = re.compile(r" ?@([-,.])@ ?")


class WikitextTokenizer(Tokenizer):
    """One token a whitespace-separated word; one ``<eos>`` a line, which also begins a text."""

    kind: ClassVar[str] = "wikitext"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Tabulate the words."""
        super().__init__(backend)
        self.vocab_size = backend.get_vocab_size()
        self.unk_id = self._unk_id = self._special(UNK)
        self.eos_id = self._special(EOS)
        # A line begins where the one before it ended: the corpus has no other mark.
        self.bos_id = self.eos_id
        self.is_word_end = np.array([i != self.eos_id for i in range(self.vocab_size)])
        self.pieces = [(backend.id_to_token(i) or "").encode() for i in range(self.vocab_size)]
        self.pieces[self.eos_id] = b""
        # Imported here, for that takes a third of a second, and few models need it.
        from sacremoses import MosesDetokenizer, MosesTokenizer

        self._moses = MosesTokenizer(lang="en")
        self._unmoses = MosesDetokenizer(lang="en")

    @classmethod
    def train(cls, lines: Iterable[str], *, vocab_size: int) -> "WikitextTokenizer":
        """Take the most frequent words of whitespace-tokenised ``lines``, ``<unk>`` one of them."""
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token=UNK))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = tokenizers.trainers.WordLevelTrainer(
            vocab_size=vocab_size - 1, special_tokens=[UNK], show_progress=False
        )
        # As special tokens they have their places; counted as words they would get a second.
        plain = (line.replace(UNK, " ").replace(EOS, " ") for line in lines)
        backend.train_from_iterator(plain, trainer)
        return cls(add_special_tokens(backend, [EOS]))

    def encode(self, text: str) -> Encoding:
        """Encode natural text; a word's offsets are those of its characters in it."""
        tokens = self._split(text)
        token_ids = []
        words = []
        end = 0
        for i, token in enumerate(tokens):
            token_ids.append(self._id(token))
            written = self.surface(token.encode())
            start = text.find(written, end)
            if start < 0:  # Moses rewrote it: an empty span says that it stands nowhere
                start, written = end, ""
            end = start + len(written)
            words.append(WordSpan(start, end, i, i + 1))
        return Encoding(token_ids, words)

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Encode lines that are whitespace-tokenised already."""
        batch = self._backend.encode_batch_fast(list(lines), add_special_tokens=False)
        return [encoded.ids for encoded in batch]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Undo the tokenisation: Moses' rules, then the ``@`` marks.

        Words to come change nothing of what stands: Moses' own rule for ``@-@``, which would, sees
        another mark in its place.
        """
        tokens = [self.pieces[i].decode() for i in token_ids if i != self.eos_id]
        hidden = [_JOINED.sub("\ue000\\1\ue000", token) for token in tokens]
        text: str = self._unmoses.detokenize(hidden, unescape=False)
        return _HIDDEN.sub(r"\1", text)

    @cached_property
    def typed(self) -> list[bytes]:
        """As any tokenizer's; ``@-@`` is typed as ``-``."""
        return [self.surface(piece).encode() for piece in super().typed]

    def surface(self, word: bytes) -> str:
        """Return the word, ``@-@`` as ``-``."""
        return _JOINED.sub(r"\1", word.decode())

    def spellings(self, word: str) -> list[list[int]]:
        """Return the spellings within the vocabulary; none where a word of it is outside."""
        tokens = self._split(word)
        found = [tokens]
        if tokens and tokens[-1] in ("-", ",", "."):
            found.append([*tokens[:-1], f"@{tokens[-1]}@"])
        ids = [[self._id(token) for token in spelling] for spelling in found]
        return [spelling for spelling in ids if spelling and self.unk_id not in spelling]

    def _id(self, token: str) -> int:
        found = self._backend.token_to_id(token)
        return self._unk_id if found is None else found

    def _split(self, text: str) -> list[str]:
        """Tokenise natural text as the corpus is; ``<unk>`` written in it stays one token."""
        # A plain word stays as it is; Moses would say so slowly, to all words of a vocabulary.
        if text.isascii() and text.isalnum():
            return [text]
        tokens = []
        # Moses would drop control characters, and join what they stand between.
        for part in re.split(rf"({UNK})", _CONTROL.sub(" ", text)):
            if part == UNK:
                tokens.append(part)
            else:
                moses = self._moses.tokenize(part, aggressive_dash_splits=True, escape=False)
                for token in moses:
                    tokens += _NUMBER_JOIN.sub(r" @\1@ ", token).split()
        return tokens
