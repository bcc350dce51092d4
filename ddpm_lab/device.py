"""Which device a run uses, and how it computes there: what `auto` means on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
from pathlib import Path
from typing import Literal

import torch
from torch.utils._triton import has_triton

from ddpm_lab import distributed, launcher, live_runs
from ddpm_lab.progress import say
from registry.errors import BadInput

Precision = str  # "fp32" or "bf16"
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h


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


def pick_memory_format(wanted: str, device: torch.device) -> torch.memory_format:
    """`auto` is channels_last on a GPU, whose matrix units want it; on a CPU contiguous was faster wherever it was measured."""
    last = device.type == "cuda" if wanted == "auto" else wanted == "channels_last"
    return torch.channels_last if last else torch.contiguous_format


def describe_memory_format(wanted: str, device: torch.device) -> str:
    """What it comes to on that device, in torch's own word."""
    return str(pick_memory_format(wanted, device)).removeprefix("torch.")


def pick_compile(wanted: bool | Literal["auto"], device: torch.device) -> bool:
    """`auto` compiles for a GPU where Triton is at hand; on a CPU it gained nothing and cost a minute or two."""
    return bool(device.type == "cuda" and has_triton()) if wanted == "auto" else wanted


def pick_threads(wanted: int | Literal["auto"], recorded: int | None = None) -> int:
    """`auto` is this run's share of the cores among the runs of the lab that are at work here; OMP_NUM_THREADS is its limit.

    The number of threads changes the last bits of a result. So a run that goes on keeps what it `recorded`, and the runs of a
    suite or of a sweep keep what that has fixed, as long as the machine has so many cores.

    Raises:
        BadInput: the fixed number is none.
    """
    if wanted != "auto":
        return wanted
    cores, others = _allowed_cores(), live_runs.others()
    share = max(1, cores // (others + 1) // launcher.local_size())
    crowd = f"{others} other run{'s' if others > 1 else ''} of the lab"
    kept = recorded or live_runs.fixed()
    if kept is not None:
        threads = min(kept, cores)
        if threads < kept:
            say(f"threads: {threads}, not the {kept} that it began with, for want of cores; the last bits will differ")
        elif others and threads > share:
            say(f"warning: {threads} threads, as it began, beside {crowd} on {cores} cores: all will be much slower")
        return threads
    threads = min(torch.get_num_threads(), share)
    if threads < min(torch.get_num_threads(), cores // launcher.local_size()):
        say(f"threads: {threads} for {cores} cores, because {crowd} {'are' if others > 1 else 'is'} at work on this machine")
    return threads


def settle(device: torch.device, threads: int) -> None:
    """Set this process up to compute: its threads, and its memory."""
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    if device.type == "cpu":
        _keep_freed_memory()


def _allowed_cores() -> int:
    """Of the machine's cores those that this process may use, by its affinity and its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))  # "max" is no number: no limit
    return max(cores, 1)


def _keep_freed_memory() -> None:
    """Each step needs what the one before has freed; handed back in between, it comes page by page again, and empty.

    Only glibc has the call. Without it the annotated U-Net was slower by a third to a half (benchmarks/reports/speed).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MALLOPT_MMAP_THRESHOLD, 2**30)
        mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)


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
