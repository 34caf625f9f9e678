"""A training state on disk: tensors in safetensors, numbers in JSON, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.networks import BatchState, RecurrentState, TransformerState
from training.optimizer import AveragedWeights, JoinedOptimizer


def save_training_state(
    path: Path,
    network: torch.nn.Module,
    optimizer: JoinedOptimizer,
    average: AveragedWeights,
    states: Mapping[str, Mapping[str, Tensor]],
    numbers: dict[str, Any],
) -> None:
    """Write everything that the next step depends on; an older file is replaced at once.

    Args:
        path: The file.
        network: Its weights.
        optimizer: Its moments.
        average: Its weights.
        states: That all streams carry, by whose they are, each from `state_tensors`.
        numbers: Values that JSON holds.
    """
    tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{i}": w for i, w in enumerate(average.weights)}
    tensors |= {f"optimizer.{name}": v for name, v in optimizer.state_tensors().items()}
    tensors["random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random_cuda"] = torch.cuda.get_rng_state()
    tensors |= {f"{whose}.{k}": v for whose, parts in states.items() for k, v in parts.items()}
    temporary = path.with_suffix(".part")
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(copies, temporary, metadata={"numbers": json.dumps(numbers)})
    temporary.replace(path)


def load_training_state(
    path: Path,
    network: torch.nn.Module,
    optimizer: JoinedOptimizer,
    average: AveragedWeights,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Put back what `save_training_state` wrote; returns the carried states and the numbers."""
    with safe_open(path, framework="pt") as file:
        numbers: dict[str, Any] = json.loads(file.metadata()["numbers"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    network.load_state_dict(groups.pop("network"))
    before = groups.pop("average")
    for i, weight in enumerate(average.weights):
        weight.copy_(before[str(i)])
    optimizer.load_state_tensors(groups.pop("optimizer", {}))
    torch.set_rng_state(groups.pop("random")[""])
    random_cuda = groups.pop("random_cuda", None)
    if random_cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_cuda[""])
    device = average.weights[0].device
    states = {
        whose: {name: tensor.to(device) for name, tensor in parts.items()}
        for whose, parts in groups.items()
    }
    return states, numbers


def state_tensors(state: BatchState) -> dict[str, Tensor]:
    """Return the tensors of a state, by name, each with the batch as its first dimension."""
    if isinstance(state, RecurrentState):
        return {str(i): v for i, v in enumerate(state.vectors)}
    assert isinstance(state, TransformerState)
    return {f.name: getattr(state, f.name) for f in fields(state)}


def state_of(parts: dict[str, Tensor]) -> BatchState:
    """Return the state of these tensors; see `state_tensors`."""
    if "keys" in parts:
        return TransformerState(**parts)
    return RecurrentState(tuple(parts[str(i)] for i in range(len(parts))))
