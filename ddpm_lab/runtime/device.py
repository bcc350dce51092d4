"""Which device a run uses, and how it computes there: what `auto` means on this machine."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import torch
from torch.utils._triton import has_triton

from ddpm_lab.runtime.host import cpu_has_bf16, cpu_name
from ddpm_lab.runtime.launcher import launched, local_rank
from registry.errors import BadInput

Precision = str  # "fp32" or "bf16"


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name; where none is named the GPU (each process its own), else the CPU."""
    own = f"cuda:{local_rank()}" if launched() else "cuda"
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(own if name == "cuda" else name)
    except RuntimeError:
        raise BadInput(f"--device: no device '{name}'; known: cpu, cuda, cuda:0 ...") from None
    if device.type not in {"cpu", "cuda"}:
        raise BadInput(f"--device: '{name}' lacks float64, which the noise path needs; known: cpu, cuda, cuda:0 ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"--device: '{name}' is not on this machine, which has {torch.cuda.device_count()} GPUs")
    return device


def pick_precision(wanted: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware multiplies it natively, else fp32."""
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()
    return "bf16" if native else "fp32"


def pick_memory_format(wanted: str, device: torch.device) -> torch.memory_format:
    """`auto` is channels_last on a GPU, whose matrix units want it; on a CPU contiguous was faster wherever it was measured."""
    last = device.type == "cuda" if wanted == "auto" else wanted == "channels_last"
    return torch.channels_last if last else torch.contiguous_format


def describe_memory_format(wanted: str, device: torch.device) -> str:
    """What `auto` means on that device, in torch's own word."""
    return str(pick_memory_format(wanted, device)).removeprefix("torch.")


def pick_compile(wanted: bool | Literal["auto"], device: torch.device) -> bool:
    """`auto` compiles for a GPU where Triton is at hand; on a CPU it gained nothing and cost a minute or two."""
    return bool(device.type == "cuda" and has_triton()) if wanted == "auto" else wanted


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The network computes in `precision`; its weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)  # type: ignore[return-value]


def describe_device(device: torch.device) -> str:
    """The name of the hardware, for reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
