"""A checkpoint is a folder; this file alone knows what is in it.

- ``model.safetensors``: the weights, float16, float32 or int8 (`models.storage`), and nothing that
  runs;
- ``config.json``: format version, network sizes, calibration temperature, where from, and
  checksums of the weights, of the tokenizer and of all else that it says itself;
- ``tokenizer.json``: the tokenizer in the Hugging Face format;
- ``README.md``: the model card, for people.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from models.errors import (
    CorruptFileError,
    FormatVersionError,
    MismatchError,
    MissingFileError,
)
from models.language_model import LanguageModel
from models.networks import Network, build_network, network_config
from models.storage import from_stored, to_stored
from models.tokenizers import Tokenizer, load_tokenizer

FORMAT_VERSION = 2  # 1 had no int8 and is otherwise the same; without int8 it is still written
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.01, 100


def save_checkpoint(
    folder: Path,
    network: Network,
    tokenizer: Tokenizer,
    *,
    temperature: float = 1.0,
    details: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint; the folder is complete or, if the call is cut short, refused on loading.

    Args:
        folder: Made where it is missing; files of an older checkpoint in it are replaced.
        network: Its weights are stored as ``dtype``.
        tokenizer: Written as JSON.
        temperature: Divides all logits (calibration); 1 changes nothing.
        details: What a reader may want to know: corpus, recipe, metrics; values that JSON holds.
        dtype: Storage type of the weights, which are float32 again once loaded; int8 keeps the
            matrices in bytes, one scale a row, and vectors in float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = to_stored(network.state_dict(), dtype)
    contents = safetensors.torch.save(weights)
    tokens = tokenizer.to_json().encode()
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / WEIGHTS).write_bytes(contents)  # safetensors' own files only their owner may read
    (folder / TOKENIZER).write_bytes(tokens)
    config = {
        "format_version": FORMAT_VERSION if dtype == torch.int8 else 1,
        "network": asdict(network.config),
        "temperature": temperature,
        "checksums": {
            WEIGHTS: _checksum(contents),
            TOKENIZER: _checksum(tokens),
        },
        "details": dict(details or {}),
    }
    (folder / CONFIG).write_text(_with_checksum(config), encoding="utf-8")


def update_config(
    folder: Path, *, temperature: float | None = None, details: Mapping[str, Any] | None = None
) -> None:
    """Replace what a checkpoint says besides its weights, at once; they stay as they are.

    Args:
        folder: A checkpoint's folder.
        temperature: The new calibration temperature, from 0.01 to 100; None keeps the old.
        details: The new details, all of them, values that JSON holds; None keeps the old.

    Raises:
        CheckpointError: The configuration is missing or is none.
        ValueError: The temperature is out of bounds.
    """
    config = _read_config(folder)
    if temperature is not None:
        if not _LEAST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
            raise ValueError(f"a temperature must be from 0.01 to 100, not {temperature}")
        config["temperature"] = temperature
    if details is not None:
        config["details"] = dict(details)
    temporary = folder / f"{CONFIG}.part"
    temporary.write_text(_with_checksum(config), encoding="utf-8")
    temporary.replace(folder / CONFIG)


def load_checkpoint(folder: Path) -> LanguageModel:
    """Read a checkpoint, ready to answer: float32 weights, no dropout, no gradients.

    Raises:
        MissingFileError: A file is not there.
        CorruptFileError: A file is truncated, altered, a pickle, or not what its name says.
        FormatVersionError: The format version is not this one.
        MismatchError: Weights, sizes and vocabulary do not belong together.
    """
    config = _read_config(folder)
    tokens = _read(folder, TOKENIZER)
    weights = _read(folder, WEIGHTS)
    try:
        tensors = safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        # Not before: safetensors begin with the length of their header, which may be any bytes.
        if weights[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CorruptFileError(
                f"{folder / WEIGHTS}: a pickle; only safetensors are ever loaded"
            ) from None
        raise CorruptFileError(
            f"{folder / WEIGHTS}: truncated or not safetensors ({error})"
        ) from None
    for name, content in ((WEIGHTS, weights), (TOKENIZER, tokens)):
        if _checksum(content) != config["checksums"].get(name):
            raise CorruptFileError(f"{folder / name}: its checksum is not the one in {CONFIG}")
    try:
        tokenizer = load_tokenizer(tokens.decode())
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{folder / TOKENIZER}: not UTF-8 ({error})") from None
    try:
        sizes = network_config(config["network"])
    except ValueError as error:
        raise CorruptFileError(f"{folder / CONFIG}: {error}") from None
    if (sizes.vocab_size, sizes.num_ids) != (tokenizer.vocab_size, tokenizer.num_ids):
        raise MismatchError(
            f"{folder / TOKENIZER}: vocabulary of {tokenizer.vocab_size} ids to predict and "
            f"{tokenizer.num_ids} to read; the network has {sizes.vocab_size} and {sizes.num_ids}"
        )
    stored = from_stored(tensors, sizes, folder / WEIGHTS)
    network = build_network(sizes)
    network.load_state_dict(stored)
    return LanguageModel(
        name=folder.resolve().name,
        network=network.eval().requires_grad_(False),
        tokenizer=tokenizer,
        temperature=config["temperature"],
        checksum=config["checksums"][WEIGHTS],
        details=config["details"],
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    config: Any
    try:
        config = json.loads(_read(folder, CONFIG))
        of_itself = _checksum_of_config(config)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not JSON ({error})") from None
    version = config.get("format_version") if isinstance(config, dict) else None
    if version is None:
        raise CorruptFileError(f"{path}: no format_version; not a checkpoint's configuration")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise FormatVersionError(f"{path}: format version {version!r}; this is {FORMAT_VERSION}")
    for key, kind in (("network", dict), ("checksums", dict), ("details", dict)):
        if not isinstance(config.get(key), kind):
            raise CorruptFileError(f"{path}: {key!r} is missing or not an object")
    checksums = config["checksums"]
    # Checkpoints of before there was a checksum of the configuration say nothing of it.
    if not {WEIGHTS, TOKENIZER} <= checksums.keys() <= {WEIGHTS, TOKENIZER, CONFIG}:
        raise CorruptFileError(f"{path}: its checksums are not those of {WEIGHTS} and {TOKENIZER}")
    if checksums.get(CONFIG, of_itself) != of_itself:
        raise CorruptFileError(f"{path}: its checksum is not the one that it states")
    temperature = config.get("temperature")
    if type(temperature) not in (int, float) or not (
        _LEAST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE
    ):
        raise CorruptFileError(f"{path}: temperature must be a number from 0.01 to 100")
    return dict(config)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{folder / name}: no such file") from None
    except IsADirectoryError:
        raise CorruptFileError(f"{folder / name}: a folder, not a file") from None
    except OSError as error:
        raise CorruptFileError(f"{folder / name}: cannot be read ({error.strerror})") from None


def _with_checksum(config: dict[str, Any]) -> str:
    """Return the text of a configuration, with the checksum of what it says."""
    config = json.loads(json.dumps(config))  # as it will be read: names of fields are strings
    checksums = config["checksums"] | {CONFIG: _checksum_of_config(config)}
    return json.dumps(config | {"checksums": checksums}, indent=2, ensure_ascii=False) + "\n"


def _checksum_of_config(config: Any) -> str:
    """Return the checksum of all that a configuration says but this very checksum.

    It is of the values, in one order and spelling, so that it holds however the file is laid out.
    """
    if isinstance(config, dict) and isinstance(config.get("checksums"), dict):
        others = {name: c for name, c in config["checksums"].items() if name != CONFIG}
        config = config | {"checksums": others}
    return _checksum(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
