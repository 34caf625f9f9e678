"""The shared library: where it is, and how its functions are called."""

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path

from models.errors import BackendUnavailableError

PATH = Path(__file__).with_name("libnextword.so")
INSTRUCTIONS = "NEXTWORD_INSTRUCTIONS"  # environment: avx512, avx2 or generic; for tests

_pointer = ctypes.c_void_p


class Sizes(ctypes.Structure):
    """Sizes of a network, as ``native.h`` has them."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            "kind",
            "vocab_size",
            "num_ids",
            "width",
            "hidden",
            "layers",
            "projected",
            "heads",
            "inner",
            "window",
            "block",
            "alone",
        )
    ]


class Call(ctypes.Structure):
    """The texts of one call, as ``native.h`` has them; addresses of arrays with one entry a text.

    Those of ``tokens`` and ``targets`` have one entry a token.
    """

    _fields_ = [
        ("texts", ctypes.c_int32),
        *(
            (name, _pointer)
            for name in (
                "lengths",
                "tokens",
                "wants",
                "targets",
                "outputs",
                "before",
                "after",
                "blocks",
                "copies",
                "bases",
                "positions",
            )
        ),
    ]


@cache
def load_library() -> ctypes.CDLL:
    """Load the library once and choose the set of instructions.

    Raises:
        BackendUnavailableError: It was not built, does not load, or lacks the set that the
            environment asks for.
    """
    if not PATH.exists():
        raise BackendUnavailableError(
            f"{PATH.name} was not built: installing the project builds it where a C compiler is"
        )
    try:
        loaded = ctypes.CDLL(str(PATH))
        _declare(loaded)
    except (OSError, AttributeError) as error:
        raise BackendUnavailableError(f"{PATH} does not load: {error}") from None
    if loaded.nextword_sources() != _checksum(loaded):
        raise BackendUnavailableError(
            f"{PATH.name} was built from other sources: install the project again"
        )
    choose_instructions(loaded, os.environ.get(INSTRUCTIONS, ""))
    return loaded


def _checksum(loaded: ctypes.CDLL) -> bytes:
    """Return the checksum of the sources beside the library; its own where there are none."""
    sources = sorted((*PATH.parent.glob("*.c"), *PATH.parent.glob("*.h")))
    if not sources:
        own: bytes = loaded.nextword_sources()
        return own
    content = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content).hexdigest().encode()


def choose_instructions(loaded: ctypes.CDLL, name: str) -> str:
    """Compute with the instructions called ``name``, or the processor's best for an empty one.

    Raises:
        BackendUnavailableError: The processor has no such instructions.
    """
    chosen: bytes | None = loaded.nextword_instructions(name.encode())
    if chosen is None:
        raise BackendUnavailableError(f"this processor has no instructions called {name!r}")
    return chosen.decode()


def _declare(loaded: ctypes.CDLL) -> None:
    i32, i64, f32 = ctypes.c_int32, ctypes.c_int64, ctypes.c_float
    functions = {
        "instructions": (ctypes.c_char_p, [ctypes.c_char_p]),
        "current": (ctypes.c_char_p, []),
        "sources": (ctypes.c_char_p, []),
        "search_new": (_pointer, [_pointer, _pointer, ctypes.c_char_p]),
        "search_expand": (ctypes.c_int, [_pointer, _pointer]),
        "search_next": (ctypes.c_int, [_pointer, ctypes.c_int, _pointer]),
        "search_found": (None, [_pointer] * 4),
        "search_free": (None, [_pointer]),
        "pool_new": (_pointer, [i32]),
        "model_new": (_pointer, [_pointer, _pointer]),
        "model_free": (None, [_pointer]),
        "model_norm": (None, [_pointer, i32, _pointer]),
        "model_pack": (
            None,
            [_pointer, i32] * 4 + [_pointer, f32, f32, i32, i32],
        ),
        "block_bytes": (i64, [_pointer]),
        "compute": (None, [_pointer, _pointer, _pointer]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(loaded, f"nextword_{name}")
        function.restype, function.argtypes = result, arguments


@cache
def pool(threads: int) -> int | None:
    """Return the process' pool of ``threads``, the caller included; None where that is alone.

    All models share it: one that finds it taken computes alone, with the same results.
    """
    if threads < 2:
        return None
    made: int | None = load_library().nextword_pool_new(threads)
    return made
