"""Which device a run uses, and in which precision the network computes."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import torch

from ddpm_lab import distributed
from registry.errors import BadInput

Precision = str  # "fp32" or "bf16"


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name; where none is named the GPU (each process its own), else the CPU."""
    own = f"cuda:{distributed.local_rank()}" if distributed.launched() else "cuda"
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
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return "bf16" if native else "fp32"


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The network computes in `precision`; its weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)  # type: ignore[return-value]


def describe_device(device: torch.device) -> str:
    """The name of the hardware, for reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_has_bf16() -> bool:
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False
