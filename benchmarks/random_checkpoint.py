"""Write a checkpoint of random weights and made-up words: ``python -m … FOLDER``."""

import sys
from pathlib import Path

from benchmarks.ours import language_model
from models.checkpoint import save_checkpoint


def write_random_checkpoint(folder: Path) -> None:
    """Write the Transformer of `benchmarks.sizes`, which never ends a sentence by itself."""
    model = language_model("transformer", "torch")
    save_checkpoint(folder, model.network, model.tokenizer, details={"corpus": {}, "metrics": {}})


if __name__ == "__main__":
    write_random_checkpoint(Path(sys.argv[1]))
