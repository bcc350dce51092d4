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
ACCELERATORS = ("cuda", "xpu", "mps")  # in the order in which one is looked for
KNOWN = "known: cpu, cuda, cuda:0 ..., xpu, mps"


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name; where none is named, or `auto`, a GPU (each process its own), else the CPU.

    Raises:
        BadInput: there is no such device here, or it is not one for several processes.
    """
    own = f"cuda:{local_rank()}" if launched() else "cuda"
    if name in (None, "auto"):
        name = next((kind for kind in ACCELERATORS if _count(kind) and not (launched() and kind != "cuda")), "cpu")
    try:
        device = torch.device(own if name == "cuda" else name)  # type: ignore[arg-type]
    except RuntimeError:
        raise BadInput(f"--device: no device '{name}'; {KNOWN}") from None
    if device.type not in {"cpu", *ACCELERATORS}:
        raise BadInput(f"--device: the lab does not compute on '{name}'; {KNOWN}")
    if device.type != "cpu" and (device.index or 0) >= (count := _count(device.type)):
        raise BadInput(f"--device: '{name}' is not on this machine, which has {count} GPUs of that kind; take cpu")
    if launched() and device.type not in {"cpu", "cuda"}:
        raise BadInput(f"--device: several processes compute on cpu or cuda, not on '{name}'; start one, without torchrun")
    return device


def _count(kind: str) -> int:
    """How many accelerators of that kind torch can use here."""
    module = torch.get_device_module(kind)
    return int(module.device_count()) if module.is_available() else 0


def layers_generator(device: torch.device) -> torch.Generator:
    """Torch's own, from which layers on that device take random numbers, such as dropout's masks."""
    if device.type == "cpu":
        return torch.default_generator
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()  # torch has no public name for it
    module = torch.get_device_module(device)
    return module.default_generators[module.current_device() if device.index is None else device.index]  # type: ignore[no-any-return]


def pick_precision(wanted: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware is known to multiply it natively, else fp32, as on xpu and mps."""
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def pick_memory_format(wanted: str, device: torch.device) -> torch.memory_format:
    """`auto` is channels_last on CUDA, whose matrix units want it; on a CPU contiguous was faster wherever it was measured."""
    last = device.type == "cuda" if wanted == "auto" else wanted == "channels_last"
    return torch.channels_last if last else torch.contiguous_format


def describe_memory_format(wanted: str, device: torch.device) -> str:
    """What `auto` means on that device, in torch's own word."""
    return str(pick_memory_format(wanted, device)).removeprefix("torch.")


def pick_compile(wanted: bool | Literal["auto"], device: torch.device) -> bool:
    """`auto` compiles for CUDA where Triton is at hand; on a CPU it gained nothing and cost a minute or two."""
    return bool(device.type == "cuda" and has_triton()) if wanted == "auto" else wanted


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The network computes in `precision`; its weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)  # type: ignore[return-value]


def describe_device(device: torch.device) -> str:
    """The name of the hardware, for reports."""
    if device.type in {"cuda", "xpu"}:
        return str(torch.get_device_module(device).get_device_name(device))
    if device.type == "mps":
        return f"{cpu_name()}, its GPU (mps)"
    return f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
