"""The processor to compute on."""

import os
import platform

import torch


def pick_device(name: str | None) -> torch.device:
    """Return the device called ``name``; None for the GPU where there is one, otherwise the CPU.

    Raises:
        ValueError: There is no such device.
    """
    if name is None:
        local = os.environ.get("LOCAL_RANK")  # torchrun's: a GPU for each process
        cuda = f"cuda:{local}" if local else "cuda"
        return torch.device(cuda if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device {name!r} is not there") from None
    if device.type == "meta":
        raise ValueError("device 'meta' computes nothing")
    return device


def describe_device(device: torch.device) -> str:
    """Return what people call the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name} CPU, {threads} thread{'s' * (threads > 1)}"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for it: recent GPUs, CPUs with AVX512-BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def cpu_computes_bfloat16() -> bool:
    """Return whether oneDNN, which torch leaves an LSTM to, can compute with bfloat16 here."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
