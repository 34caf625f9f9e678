"""Networks in int8 on a CPU, in C: a library that `pip install` builds.

`NativeBackend` computes what `TorchBackend` computes, several times faster and a little less
exactly; it is available where a C compiler was when the project was installed.
"""

from models.errors import BackendUnavailableError
from models.native.backend import NativeBackend
from models.native.library import load_library

__all__ = ["NativeBackend", "available", "instructions"]


def available() -> bool:
    """Return whether the library is there and loads."""
    try:
        load_library()
    except BackendUnavailableError:
        return False
    return True


def instructions() -> str:
    """Return the set of instructions in use: ``avx512``, ``avx2`` or ``generic``.

    Raises:
        BackendUnavailableError: The library was not built or does not load.
    """
    name: bytes = load_library().nextword_current()
    return name.decode()
