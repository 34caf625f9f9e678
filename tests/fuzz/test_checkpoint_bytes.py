"""A checkpoint with damaged bytes is refused, or answers as the sound one does: never otherwise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import load_checkpoint, save_checkpoint
from models.errors import CheckpointError
from models.forward import run
from models.language_model import LanguageModel
from models.next_word import next_word
from tests.models.helpers import bounded, model_of

FILES = ("config.json", "model.safetensors", "tokenizer.json")
TEXT = "the cat doesn't"


def answer(model: LanguageModel) -> object:
    return run(next_word(model, TEXT, top_k=5, words_only=False), model)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], object]:
    """The files of a checkpoint, and what it answers."""
    folder, model = tmp_path_factory.mktemp("sound"), model_of("lstm")
    details = {"corpus": {"train": ["a grammar"]}, "metrics": {"perplexity": 12.5}}
    save_checkpoint(
        folder, model.network, model.tokenizer, temperature=1.25, details=details,
        dtype=torch.float32,
    )  # fmt: skip
    files = {name: (folder / name).read_bytes() for name in FILES}
    return files, answer(load_checkpoint(folder))


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes of a file, with something wrong."""
    size = len(content)
    at = draw(st.integers(0, size - 1) | st.integers(0, min(size, 2000) - 1))
    match draw(st.sampled_from(["flip", "cut", "swap", "move", "repeat", "zero"])):
        case "flip":
            bit = 1 << draw(st.integers(0, 7))
            return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        case "cut":
            return content[:at]
        case "swap":
            other = draw(st.integers(0, size - 1))
            swapped = bytearray(content)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return bytes(swapped)
        case "move":
            length = draw(st.integers(1, 64))
            return content[:at] + content[at + length :] + content[at : at + length]
        case "repeat":
            length = draw(st.integers(1, 64))
            return content[:at] + content[at : at + length] + content[at:]
        case _:
            length = min(draw(st.integers(1, 4096)), size - at)
            return content[:at] + bytes(length) + content[at + length :]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_or_does_no_harm(sound, tmp_path_factory, name):
    files, expected = sound
    folder = tmp_path_factory.mktemp("damaged")
    refused = 0

    @given(damage(files[name]))
    @bounded(150)
    def check(content: bytes) -> None:
        nonlocal refused
        for file, of_file in (files | {name: content}).items():
            (folder / file).write_bytes(of_file)
        try:
            model = load_checkpoint(folder)
        except CheckpointError:
            refused += 1
        else:
            # Only blanks of the configuration are nobody's; weights and tokenizer are whole bytes.
            assert content == files[name] or name == "config.json"
            assert model.temperature == 1.25
            assert answer(model) == expected

    check()
    assert refused > 100


def test_files_of_two_checkpoints_do_not_mix(sound, tmp_path):
    files, _ = sound
    other = model_of("lstm", seed=1)
    save_checkpoint(tmp_path, other.network, other.tokenizer, dtype=torch.float32)
    theirs = {name: (tmp_path / name).read_bytes() for name in FILES}
    mixed = 0
    for name in FILES:
        for mine, added in ((files, theirs), (theirs, files)):
            mixture = mine | {name: added[name]}
            if mixture in (files, theirs):
                continue
            mixed += 1
            for file, content in mixture.items():
                (tmp_path / file).write_bytes(content)
            with pytest.raises(CheckpointError):
                load_checkpoint(tmp_path)
    assert mixed >= 4
