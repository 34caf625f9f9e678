"""How weights lie in a file: as floats, or as bytes with a scale a row.

A matrix of bytes ``q`` (M, K), int8, stands for ``q * scale[:, None]``; its scales (M,), float32,
lie beside it as ``NAME.scale``. The largest weight of a row is 127 scales.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.errors import CorruptFileError, MismatchError
from models.networks import NetworkConfig

SCALE = ".scale"
_MOST = 127  # a byte's largest value, and less its smallest: -128 is never used
_NOTHING = 1e-30  # a row without a larger weight is stored as zeros


def to_stored(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return what is written of ``weights``.

    Args:
        weights: By name, floating point.
        dtype: A floating type for all of them; or int8 for matrices, with vectors as float32.

    Raises:
        ValueError: Numbers that are not finite.
    """
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name!r} holds numbers that are not finite")
    if dtype != torch.int8:
        return {name: w.detach().to(dtype).contiguous() for name, w in weights.items()}
    stored = {}
    for name, weight in weights.items():
        plain = weight.detach().to("cpu", torch.float32).contiguous()
        if plain.ndim == 2:
            stored[name], stored[name + SCALE] = _round(plain)
        else:
            stored[name] = plain
    return stored


def _round(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return bytes (M, K) and scales (M,) of a ``matrix`` (M, K)."""
    peaks = matrix.abs().amax(dim=1, keepdim=True)
    inverse = torch.where(peaks > _NOTHING, _MOST / peaks, 0)
    scales = torch.where(peaks > _NOTHING, peaks / _MOST, 0)
    return (matrix * inverse).round().to(torch.int8), scales[:, 0]


def from_stored(
    tensors: Mapping[str, Tensor], sizes: NetworkConfig, path: Path
) -> dict[str, Tensor]:
    """Return float32 weights of a network of these ``sizes``.

    The sizes are compared before anything of them is made, for they may be any numbers.

    Args:
        tensors: As they lie in the file.
        sizes: What the configuration says.
        path: The file, for errors.

    Raises:
        MismatchError: A tensor is missing, too many, or of another shape or type.
        CorruptFileError: Numbers that are not finite, or scales and bytes that nothing wrote.
    """
    if sizes.num_layers > len(tensors):
        raise MismatchError(f"{path}: too few tensors for {sizes.num_layers} layers")
    wanted = dict(sizes.shapes())
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8 and len(wanted.get(name, ())) == 2:
            wanted[name + SCALE] = wanted[name][:1]
    for name in sorted(wanted.keys() ^ tensors.keys()):
        problem = "is missing" if name in wanted else "does not belong to this network"
        raise MismatchError(f"{path}: the tensor {name!r} {problem}")
    for name, tensor in tensors.items():
        _check(name, tensor, wanted[name], path)
    weights = {name: w.float() for name, w in tensors.items() if not name.endswith(SCALE)}
    for name in weights:
        if name + SCALE in tensors:
            weights[name] *= tensors[name + SCALE].float()[:, None]
            if not weights[name].isfinite().all():
                raise CorruptFileError(f"{path}: {name!r} has scales too large")
    return weights


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], path: Path) -> None:
    """Raise unless this may be the tensor ``name`` of ``shape``."""
    if tuple(tensor.shape) != shape:
        raise MismatchError(f"{path}: {name!r} has shape {tuple(tensor.shape)}, not {shape}")
    if tensor.dtype == torch.int8 and len(shape) == 2:
        if tensor.numel() and int(tensor.min()) < -_MOST:
            raise CorruptFileError(f"{path}: {name!r} holds -128, which no rounding gives")
        return
    if not tensor.is_floating_point():
        raise MismatchError(f"{path}: {name!r} holds {tensor.dtype}, not floating point")
    if not tensor.float().isfinite().all():
        raise CorruptFileError(f"{path}: {name!r} holds numbers that are not finite")
    if name.endswith(SCALE) and bool((tensor.float() < 0).any()):
        raise CorruptFileError(f"{path}: {name!r} holds scales below 0")
