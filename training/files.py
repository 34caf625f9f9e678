"""Files that are whole or not there at all."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 so that a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
