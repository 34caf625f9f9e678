"""Which backend computes a model."""

from dataclasses import replace
from typing import Literal

import torch

from models.backends.torch import TorchBackend
from models.errors import BackendUnavailableError
from models.language_model import LanguageModel

Precision = Literal["auto", "float32", "int8"]


def choose_backend(model: LanguageModel, precision: Precision, *, threads: int) -> LanguageModel:
    """Return the model, computed by the fastest backend of this precision here.

    Args:
        model: As it was loaded.
        precision: ``int8`` products on the CPU; ``float32`` in torch, on a GPU if there is one;
            ``auto`` takes float32 on a GPU, else int8 where it was built, else float32.
        threads: Most threads that one step may use.

    Raises:
        BackendUnavailableError: The precision was asked for and is not to be had.
    """
    from models import native

    if precision == "int8" or (precision == "auto" and not torch.cuda.is_available()):
        try:
            backend = native.NativeBackend(model.network, model.temperature, threads=threads)
            return replace(model, backend=backend)
        except BackendUnavailableError:
            if precision == "int8":
                raise
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        model.network.to("cuda")
    return replace(model, backend=TorchBackend(model.network, model.temperature))
