"""Allocator settings for training, which have to be there before the process starts.

glibc gives every buffer above 128 kB to 32 MB a mapping of its own and returns it to the kernel
when it is freed. A training step frees and asks for the same large buffers again and again, and
each time the kernel clears every page of them at its first touch: up to almost half of the time of
a step on a CPU. Kept in one heap that never shrinks, the pages are cleared once.

glibc reads these settings when a program is loaded, so the command replaces itself, once.
"""

import os
import sys
from collections.abc import Mapping, Sequence

_MARK = "NEXTWORD_ALLOCATOR"
_SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),  # bytes: never reached
}


def tuned_environment(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return ``environ`` with allocator settings added, or None where it has to stay as it is.

    It stays where the settings were made before, here or by the user, in whichever way: a variable
    of glibc's, its tunables, or another allocator that is preloaded.
    """
    chosen = any(name.startswith("MALLOC_") for name in environ)
    chosen = chosen or "glibc.malloc" in environ.get("GLIBC_TUNABLES", "")
    chosen = chosen or "malloc" in environ.get("LD_PRELOAD", "")
    if chosen or _MARK in environ:
        return None
    return {**environ, **_SETTINGS, _MARK: "tuned"}


def restart_tuned(environ: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Replace this process by itself with the settings; do nothing where they would not help.

    Args:
        environ: The environment of this process.
        arguments: The interpreter's whole command line, as ``sys.orig_argv`` has it.
    """
    if not _is_glibc() or not sys.executable:
        return
    if environment := tuned_environment(environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *arguments[1:]], environment)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # another system, another C library
        return False
