"""What a model gains from a little text of another kind.

::

    python -m benchmarks.adaptation checkpoints/everyday-lstm

The text is the prose of the docstrings in Python's standard library, some 160,000 words of English
that the models that ship have never seen the like of; a tenth of its paragraphs is kept for
validation. The README's command adapts the checkpoint to it, and ``nextword compare`` measures
both. Texts, run and result stay in ``runs/adaptation``: a second call goes on, or only
measures.
"""

import argparse
import ast
import random
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

FOLDER = Path("runs/adaptation")
SETTINGS = (
    "training.epochs=2",
    "training.batch_size=32",
    "training.validate_every=70",
    "optimizer.learning_rate=1e-3",
    "optimizer.warmup_steps=30",
    "optimizer.average_decay=0.99",
)
_NOT_PROSE = ("site-packages", "test/", "tests/", "idlelib", "lib2to3", "pip")

console = Console(width=None if sys.stdout.isatty() else 120)


def paragraphs() -> Iterator[str]:
    """Yield the paragraphs that are sentences, of all docstrings, in the order of the files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(library.rglob("*.py")):
        if any(part in str(path.relative_to(library)) for part in _NOT_PROSE):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            docstring = ast.get_docstring(node) if isinstance(node, documented) else None
            for paragraph in re.split(r"\n\s*\n", docstring or ""):
                text = " ".join(paragraph.split())
                sentence = re.fullmatch(r"[A-Z].*[.:]", text) and ">>>" not in text
                if sentence and len(text.split()) >= 5:
                    yield text


def write_texts(folder: Path) -> None:
    """Write ``train.txt`` and ``valid.txt``, every paragraph a document, no two alike."""
    texts = list(dict.fromkeys(paragraphs()))
    random.Random(0).shuffle(texts)
    kept = len(texts) // 10
    for name, part in (("valid", texts[:kept]), ("train", texts[kept:])):
        (folder / f"{name}.txt").write_text("\n\n".join(part) + "\n", encoding="utf-8")
        words = sum(len(text.split()) for text in part)
        console.print(f"{folder / name}.txt: {len(part):,} paragraphs, {words:,} words")


def nextword(*arguments: object) -> None:
    """Show and run a command of ours."""
    command = ["nextword", *map(str, arguments)]
    console.print(f"[bold]{shlex.join(command)}", soft_wrap=True)
    program = Path(sys.executable).with_name("nextword")
    if status := subprocess.run([program, *command[1:]], check=False).returncode:
        raise SystemExit(status)


def main() -> None:
    """Adapt, where that is not done yet, and measure before and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="its name is that of its recipe")
    parser.add_argument("--sample", type=int, default=500, help="positions of word-level metrics")
    arguments = parser.parse_args()
    base = arguments.checkpoint
    adapted, run = FOLDER / f"{base.name}-adapted", FOLDER / f"{base.name}-run"
    train, valid = FOLDER / "train.txt", FOLDER / "valid.txt"
    if not adapted.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_texts(FOLDER)
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        files = ["--data", train, "--valid", valid, "--out", adapted, "--run", run]
        more = ["--threads", 1, "--sample", 0]
        more += ["--resume"] if (run / "state.safetensors").exists() else []
        nextword("train", "--from", base, "--recipe", base.name, *files, *settings, *more)
    measured = ["--data", valid, "--sample", arguments.sample, "--markdown", FOLDER / "compare.md"]
    nextword("compare", base, adapted, *measured)


if __name__ == "__main__":
    main()
