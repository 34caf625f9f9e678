"""Which words may come next, found by the library: what `models.search` asks most often."""

import ctypes
from array import array
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from models.errors import BackendUnavailableError
from models.native.library import PATH, load_library
from models.tokenizers import Tokenizer

MOST_ENOUGH = 64  # words that the floor can be raised to
_ROOM = 48  # children found at a time
SINGLE_WORD, WORD_START, UNIT_START, PIECE = 1, 2, 4, 8  # flags of a token


class _Children(ctypes.Structure):
    """One question, as ``native.h`` has it."""

    _fields_ = [
        ("given", ctypes.c_void_p),
        ("flags", ctypes.c_void_p),
        ("word_ends", ctypes.c_void_p),
        ("vocab_size", ctypes.c_int32),
        ("allowed", ctypes.c_int32),
        ("enough", ctypes.c_int32),
        ("room", ctypes.c_int32),
        ("before", ctypes.c_double),
        ("slack", ctypes.c_double),
        ("floor", ctypes.c_double),
        ("finished", ctypes.c_double),
        ("found", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("log_probs", ctypes.c_void_p),
    ]


class NativeChildren:
    """The children of unfinished words, for one search."""

    def __init__(self, tokenizer: Tokenizer, slack: float) -> None:
        """Prepare.

        Args:
            tokenizer: Whose tokens they are.
            slack: How far the floor stays below the word that it is raised to, nats.

        Raises:
            BackendUnavailableError: The library was not built or does not load.
        """
        self._find, self._cover = _functions()
        self._flags, self._ends = _tables(tokenizer)
        self._ids, self._log_probs = array("i", bytes(4 * _ROOM)), array("d", bytes(8 * _ROOM))
        self._masses = array("d", (0, 0))
        self._call = _Children(
            flags=self._flags.ctypes.data,
            word_ends=self._ends.ctypes.data,
            vocab_size=tokenizer.vocab_size,
            slack=slack,
            room=_ROOM,
            ids=self._ids.buffer_info()[0],
            log_probs=self._log_probs.buffer_info()[0],
        )
        self._address = ctypes.addressof(self._call)
        self._at_masses = self._masses.buffer_info()[0]

    def any(
        self, given: int, before: float, *, floor: float, enough: int, allowed: int
    ) -> tuple[list[int], list[float], bool, float, float]:
        """Find the children that reach a floor, or the most probable of them.

        Args:
            given: Address of natural log-probabilities (V,), float32, contiguous.
            before: Natural log-probability of what stands before them.
            floor: Less probable children are not needed.
            enough: Raise the floor, less the slack, to the so-many-th single word; 0 for not.
            allowed: Flags of which a child has one.

        Returns:
            Their ids and log-probabilities, ``before`` included, the most probable first, of
            equals that with the lower id; whether there may be more; the floor; the probability
            of all that finishes a word here.
        """
        call = self._call
        call.given, call.before, call.floor = given, before, floor
        call.enough, call.allowed = enough, allowed
        more = not self._find(self._address)
        found: int = call.found
        ids, log_probs = self._ids[:found].tolist(), self._log_probs[:found].tolist()
        return ids, log_probs, more, call.floor, call.finished

    def covering(
        self, given: int, before: float, tokens: np.ndarray, *, allowed: int
    ) -> tuple[list[int], list[float], bool, float, float]:
        """Look up given children.

        Args:
            given: Address of natural log-probabilities (V,), float32, contiguous.
            before: Natural log-probability of what stands before them.
            tokens: Their ids (C,), int32, contiguous.
            allowed: Flags of which a child that is returned has one.

        Returns:
            As `any`, of equals the first; but instead of the floor the probability of all
            ``tokens``, and instead of the mass that of those that finish a word.
        """
        call = self._call
        call.given, call.before, call.allowed = given, before, allowed
        address = tokens.__array_interface__["data"][0]
        more = not self._cover(self._address, address, len(tokens), self._at_masses)
        found: int = call.found
        ids, log_probs = self._ids[:found].tolist(), self._log_probs[:found].tolist()
        return ids, log_probs, more, self._masses[0], self._masses[1]


def native_children(tokenizer: Tokenizer, slack: float) -> NativeChildren | None:
    """Return the library's way to find children; None where there is no library."""
    try:
        return NativeChildren(tokenizer, slack)
    except BackendUnavailableError:
        return None


@lru_cache(1)
def _functions() -> tuple[Callable[..., int], Callable[..., int]]:
    loaded = load_library()
    # These take a microsecond: to let other threads run meanwhile would cost many.
    holding = ctypes.PyDLL(str(PATH))
    for name in ("nextword_children", "nextword_covering"):
        getattr(holding, name).argtypes = getattr(loaded, name).argtypes
    return holding.nextword_children, holding.nextword_covering


@lru_cache(16)
def _tables(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return flags (V,), uint8, and the weights of the ends of words (V,), float32."""
    flags = (
        SINGLE_WORD * tokenizer.single_words
        + WORD_START * tokenizer.word_starts
        + UNIT_START * tokenizer.unit_starts
        + PIECE * tokenizer.is_piece
    )
    return flags.astype(np.uint8), np.ascontiguousarray(tokenizer.word_ends)
