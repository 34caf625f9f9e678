"""A checkpoint is a folder; this file alone knows what is in it.

- ``model.safetensors``: the weights, float16 or float32, and nothing that runs;
- ``config.json``: format version, network sizes, calibration temperature, checksums, where from;
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
from torch import Tensor

from models.errors import (
    CorruptFileError,
    FormatVersionError,
    MismatchError,
    MissingFileError,
)
from models.language_model import LanguageModel
from models.networks import Network, NetworkConfig, build_network, network_config
from models.tokenizers import Tokenizer, load_tokenizer

FORMAT_VERSION = 1
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"


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
        dtype: Storage type of the weights; they are float32 again once loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().to(dtype).contiguous() for name, w in network.state_dict().items()}
    tokens = tokenizer.to_json().encode()
    (folder / CONFIG).unlink(missing_ok=True)
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    (folder / TOKENIZER).write_bytes(tokens)
    config = {
        "format_version": FORMAT_VERSION,
        "network": asdict(network.config),
        "temperature": temperature,
        "checksums": {
            WEIGHTS: _checksum((folder / WEIGHTS).read_bytes()),
            TOKENIZER: _checksum(tokens),
        },
        "details": dict(details or {}),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def update_details(folder: Path, details: Mapping[str, Any]) -> None:
    """Replace the details of a checkpoint; weights, sizes and tokenizer stay as they are.

    Args:
        folder: A checkpoint's folder.
        details: The new details, all of them; values that JSON holds.

    Raises:
        CheckpointError: The configuration is missing or is none.
    """
    config = {**_read_config(folder), "details": dict(details)}
    temporary = folder / f"{CONFIG}.part"
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
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
    if weights[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CorruptFileError(f"{folder / WEIGHTS}: a pickle; only safetensors are ever loaded")
    try:
        tensors = safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
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
    _check_tensors(sizes, tensors, folder / WEIGHTS)
    network = build_network(sizes)
    network.load_state_dict(tensors)
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
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not JSON ({error})") from None
    version = config.get("format_version") if isinstance(config, dict) else None
    if version is None:
        raise CorruptFileError(f"{path}: no format_version; not a checkpoint's configuration")
    if version != FORMAT_VERSION:
        raise FormatVersionError(f"{path}: format version {version!r}; this is {FORMAT_VERSION}")
    for key, kind in (("network", dict), ("checksums", dict), ("details", dict)):
        if not isinstance(config.get(key), kind):
            raise CorruptFileError(f"{path}: {key!r} is missing or not an object")
    temperature = config.get("temperature")
    if not (isinstance(temperature, int | float) and 0 < temperature < 100):
        raise CorruptFileError(f"{path}: temperature must be above 0 and below 100")
    return dict(config)


def _check_tensors(sizes: NetworkConfig, tensors: dict[str, Tensor], path: Path) -> None:
    """Raise MismatchError unless these are the weights of a network of these ``sizes``.

    The sizes are compared before anything of them is made, for they may be any numbers.
    """
    if sizes.num_layers > len(tensors):
        raise MismatchError(f"{path}: too few tensors for {sizes.num_layers} layers")
    wanted = dict(sizes.shapes())
    for name in sorted(wanted.keys() ^ tensors.keys()):
        problem = "is missing" if name in wanted else "does not belong to this network"
        raise MismatchError(f"{path}: the tensor {name!r} {problem}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != wanted[name]:
            raise MismatchError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, not {wanted[name]}"
            )
        if not tensor.is_floating_point():
            raise MismatchError(f"{path}: {name!r} holds {tensor.dtype}, not floating point")
        if not tensor.float().isfinite().all():
            raise CorruptFileError(f"{path}: {name!r} holds numbers that are not finite")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{folder / name}: no such file") from None
    except IsADirectoryError:
        raise CorruptFileError(f"{folder / name}: a folder, not a file") from None
    except OSError as error:
        raise CorruptFileError(f"{folder / name}: cannot be read ({error.strerror})") from None


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
