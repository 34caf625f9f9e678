"""Build the library of `models.native` where there is a C compiler; everything else is declared.

Without one the install succeeds all the same, and models are computed in torch.
"""

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FOLDER = Path("models/native")
LIBRARY = FOLDER / "libnextword.so"
# No contraction of products and sums: every set of instructions is to give the same bits.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
FLAGS += ["-Wall", "-Wextra", "-Wno-psabi", "-fPIC", "-shared", "-pthread"]


def find_compiler() -> list[str]:
    """Return the command of a C compiler: $CC, the system's, or the wheel ``ziglang``."""
    if command := shlex.split(os.environ.get("CC", "")):
        return command
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        # By itself it compiles for this very processor; the library chooses when it is loaded.
        return [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    raise CompileError("no C compiler found")


class BuildLibrary(build_ext):
    """Compile all sources into one library, which Python does not import but loads."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return its path, or its name for a name without the package: the same for all Pythons."""
        return str(LIBRARY) if "." in fullname else LIBRARY.name

    def build_extension(self, ext: Extension) -> None:
        """Compile, and put it in its place whole; programs may have the one before loaded.

        It carries a checksum of its sources, by which `models.native.library` knows it.
        """
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # one of other sources would not be loaded
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        sources = sorted((*FOLDER.glob("*.c"), *FOLDER.glob("*.h")))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
        command = [
            *find_compiler(),
            *FLAGS,
            f'-DSOURCES="{digest}"',
            *ext.sources,
            "-o",
            str(fresh),
            "-lm",
        ]
        try:
            subprocess.run(command, check=True)
            fresh.replace(target)
        except (OSError, subprocess.CalledProcessError) as error:
            fresh.unlink(missing_ok=True)
            raise CompileError(str(error)) from error


setup(
    cmdclass={"build_ext": BuildLibrary},
    ext_modules=[
        Extension(
            "models.native.libnextword",
            sources=sorted(map(str, FOLDER.glob("*.c"))),
            depends=sorted(map(str, FOLDER.glob("*.h"))),
            optional=True,
        )
    ],
)
