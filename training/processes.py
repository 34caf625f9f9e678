"""Training by several processes, as ``torchrun`` starts them; one process is a group of one.

Each process reads streams of its own and the gradients are averaged before every step, which is
what DistributedDataParallel does (Li et al. 2020); its wrapper needs a ``forward`` that returns a
loss, where this is a few lines for any network. The batch of a recipe is that of all processes
together, so that what a recipe computes does not depend on how many there are.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """A group of processes.

    Attributes:
        rank: Which one this is.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return which of ``total`` things are this process's; shares differ by one at most."""
        return slice(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over the processes, in place."""
        if self.count == 1:
            return
        together = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in together])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in together])
        for tensor, part in zip(together, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        together = list(tensors)
        self.sum(together)
        if self.count > 1:
            torch._foreach_div_(together, self.count)

    def any(self, answer: bool, device: torch.device) -> bool:
        """Return whether any process's answer is yes."""
        if self.count == 1:
            return answer  # without a wait for a GPU
        yes = torch.tensor([float(answer)], device=device)
        self.sum([yes])
        return bool(yes)

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of equal shape, behind one another along their first dimension."""
        if self.count == 1:
            return dict(tensors)
        gathered = {}
        for name, tensor in tensors.items():
            parts = [torch.empty_like(tensor) for _ in range(self.count)]
            distributed.all_gather(parts, tensor.contiguous())
            gathered[name] = torch.cat(parts)
        return gathered

    def wait(self) -> None:
        """Wait for all processes to come here."""
        if self.count > 1:
            distributed.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do something before the others do it too, on what it left."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the group that ``torchrun`` has described in the environment; or be one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
        distributed.barrier()  # nobody goes while another is still at it
    finally:
        distributed.destroy_process_group()
