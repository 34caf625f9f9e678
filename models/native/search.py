"""The frontier of a search, kept by the library: see `models.frontier` for what it does."""

import ctypes
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from models.children import ChildFinder
from models.errors import BackendUnavailableError
from models.forward import Forward, Pass
from models.frontier import Found, FoundWord, Question, kept_state, reader_of_words
from models.native.library import PATH, load_library
from models.networks import State
from models.tokenizers import Tokenizer
from models.tokenizers.remembered import remembered

_BATCH = 8  # as ``search.c`` has it
_MOST_ENOUGH = 64  # words that the library raises the floor to
_MOST = (1 << 31) - 1
_MOST_KNOWN = 1 << 22  # bytes that are kept of what may stand behind tokens
_WANTED = struct.Struct("3d7i4x")  # as ``search.c`` has it
# Tables of `models.tokenizers.merges.Merges`.
_MERGES = ("last", "rank", "behind", "partners", "ranks", "within", "begun", "until")
_NO, _NEW, _KNOWN = range(3)  # whether a word counts; its text may have been found before


class NativeFrontier:
    """The frontier of a search that is not tempered, over float32 log-probabilities."""

    # Set first of all: `__del__` runs even where `__init__` raised.
    _search: int | None = None

    def __init__(self, question: Question, root: Pass) -> None:
        """Begin behind ``root``, which `suits`; its log-probabilities are the first piece's."""
        library = _functions()
        assert library is not None  # `suits`
        self._library = library
        self._question, self._root = question, root.state
        self._vocabulary = vocabulary = _vocabulary(question.tokenizer)
        self._written = reader_of_words(question.tokenizer, question.words_only)
        self._told = array("i", bytes(4 * 2 * _BATCH))
        self._at_told = self._told.buffer_info()[0]
        # One entry a node, in the order in which they were expanded.
        self._paths: list[tuple[int, ...]] = [()]
        self._states: list[State | None] = []
        self._log_probs: list[object] = []  # where more children may be asked for
        self._asked: list[tuple[str, tuple[int, ...]]] = []  # finished words that were asked for
        self._texts: set[str] = set()
        floor, mass = _raised_floor(question, root)
        wanted = _WANTED.pack(
            question.slack,
            floor,
            mass,
            _MOST if question.limit is None else min(question.limit, _MOST),
            min(question.enough or 0, _MOST),
            question.num_words,
            question.words_only,
            question.accept is not None,
            min(question.most_expansions, _MOST),
            len(question.prefix),
        )
        self._search = library.new(vocabulary.address, wanted, question.prefix)
        self.tell([root])

    def __del__(self) -> None:
        """Free the library's memory, also of a search that was abandoned."""
        if self._search is not None:
            self._library.free(self._search)

    def ask(self) -> list[Forward]:
        """Go on, and return what must be read next; nothing where the search is over."""
        told, go_on, verdict = self._told, self._library.next, _NO
        while (count := go_on(self._search, verdict, self._at_told)) < 0:
            verdict = self._judge((*self._paths[told[0]], told[1]))
        forwards = []
        for i in range(0, 2 * count, 2):
            node, token = told[i], told[i + 1]
            path, state = (*self._paths[node], token), self._states[node]
            self._paths.append(path)
            forwards.append(
                Forward(path, self._root) if state is None else Forward((token,), state)
            )
        return forwards

    def tell(self, passes: Sequence[Pass]) -> None:
        """Know what was asked for, in the same order."""
        expand = self._library.expand
        for result in passes:
            log_probs = result.log_probs
            kept = expand(self._search, log_probs.data_ptr())
            self._states.append(kept_state(result.state) if kept & 1 else None)
            self._log_probs.append(log_probs if kept & 2 else None)

    def found(self) -> Found:
        """Return what was found, once the search is over."""
        count, gave_up = self._told[:2]
        tokens, log_probs = array("i", bytes(4 * count)), array("d", bytes(8 * count))
        masses = array("d", bytes(24))
        self._library.found(
            self._search, *(values.buffer_info()[0] for values in (tokens, log_probs, masses))
        )
        plain, asked = self._vocabulary.plain, iter(self._asked)
        words = []
        for token, log_prob in zip(tokens, log_probs, strict=True):
            text, token_ids = (plain[token], (token,)) if token >= 0 else next(asked)
            words.append(FoundWord(text, log_prob, token_ids))
        return Found.of(
            words,
            prefix_log_prob=masses[0],
            finished_log_prob=masses[1],
            open_log_prob=masses[2],
            proven=not gave_up,
        )

    def _judge(self, token_ids: tuple[int, ...]) -> int:
        """Tell whether the word that ``token_ids`` end with counts."""
        question, word = self._question, token_ids
        if question.num_words > 1:
            ended = self._vocabulary.is_word_end
            ends = [i + 1 for i, token in enumerate(token_ids[:-1]) if ended[token]]
            word = token_ids[ends[-1] if ends else 0 :]
        text = self._written(word)
        if text is None or (question.accept and not question.accept(text)):
            return _NO
        if question.num_words > 1:
            if len(ends) + 1 < question.num_words:
                return _NEW
            text = question.tokenizer.decode(token_ids)
        self._asked.append((text, token_ids))
        if text in self._texts:
            return _KNOWN
        self._texts.add(text)
        return _NEW


def _raised_floor(question: Question, root: Pass) -> tuple[float, float]:
    """Return the floor to begin with, and the mass of what finishes a word at the root.

    Where the list is not very long the library finds both: it is given -inf and nan.
    """
    if question.prefix or (question.enough or 0) <= _MOST_ENOUGH:
        return -np.inf, np.nan
    finder = ChildFinder(
        question.tokenizer,
        words_only=question.words_only,
        enough=question.enough,
        slack=question.slack,
    )
    _, mass = finder.any(root.log_probs.numpy(), 0.0, start=True, root=True)
    return float(finder.floor), mass


class _Functions(NamedTuple):
    new: Callable[..., int]
    expand: Callable[..., int]
    next: Callable[..., int]
    found: Callable[..., None]
    free: Callable[..., None]


def suits(question: Question, root: Pass) -> bool:
    """Return whether the library can search behind ``root``."""
    given = root.log_probs
    return (
        question.temper is None
        and given.dtype == torch.float32
        and given.is_contiguous()
        and given.numel() == question.tokenizer.vocab_size
        and _functions() is not None
    )


@lru_cache(1)
def _functions() -> _Functions | None:
    """Return the library's functions; None where it does not load, or Python has no lock."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    try:
        loaded = load_library()
    except BackendUnavailableError:
        return None
    # These take microseconds, most of them: to let other threads run meanwhile would cost many. And
    # the interpreter's lock guards what searches share.
    holding = ctypes.PyDLL(str(PATH), handle=loaded._handle)

    def function(name: str) -> Any:
        found, declared = (
            getattr(library, f"nextword_search_{name}") for library in (holding, loaded)
        )
        found.restype, found.argtypes = declared.restype, declared.argtypes
        return found

    return _Functions(*map(function, _Functions._fields))


class _Pointers(ctypes.Structure):
    """A tokenizer's tables, as ``search.c`` has them."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("flags", "pieces", "offsets", "sorted", *_MERGES)),
        *((name, ctypes.c_void_p) for name in ("known", "known_flags")),
        *((name, ctypes.c_int32) for name in ("size", "num_sorted", "num_known", "eos")),
    ]


class _Vocabulary:
    """What the library knows of a tokenizer.

    Attributes:
        address: Of it.
        plain: The texts of the tokens that are words of a single spelling; empty for all others.
        is_word_end: As the tokenizer's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        flags = sum(
            flag << bit
            for bit, flag in enumerate(
                mask.astype(np.uint8)
                for mask in (
                    tokenizer.single_words,
                    tokenizer.word_starts,
                    tokenizer.unit_starts,
                    tokenizer.is_piece,
                    tokenizer.spelled_once,
                    tokenizer.is_word_end,
                    tokenizer.word_ends,
                )
            )
        )
        typed = tokenizer.typed
        sizes = [len(piece) for piece in typed]
        self._arrays = [
            np.ascontiguousarray(flags),
            np.frombuffer(b"".join(typed) + b"\0", dtype=np.uint8),
            np.cumsum([0, *sizes], dtype=np.int32),
            np.ascontiguousarray(tokenizer.alphabetical[1]),
        ]
        size, num_sorted = tokenizer.vocab_size, len(self._arrays[-1])
        self._arrays += [getattr(tokenizer.merges, name) for name in _MERGES]
        num_known = max(1, min(size, _MOST_KNOWN // size))
        self._arrays += [
            np.full(num_known, -1, dtype=np.int32),
            np.empty((num_known, size), dtype=np.uint8),
        ]
        self._pointers = _Pointers(
            *(table.ctypes.data for table in self._arrays),
            size,
            num_sorted,
            num_known,
            tokenizer.eos_id,
        )
        self.address = ctypes.addressof(self._pointers)
        self.plain = [
            tokenizer.surface(piece) if once else ""
            for piece, once in zip(tokenizer.pieces, tokenizer.spelled_once.tolist(), strict=True)
        ]
        self.is_word_end: list[bool] = tokenizer.is_word_end.tolist()


@remembered(1)
def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    return _Vocabulary(tokenizer)
