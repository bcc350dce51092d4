"""The machine as this process may use it: cores, threads, memory, the processor's name."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Literal

import torch

from ddpm_lab.runtime import launcher, live_runs
from ddpm_lab.runtime.console import say

MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h


def pick_threads(wanted: int | Literal["auto"], recorded: int | None = None) -> int:
    """`auto` is this run's share of the cores among the runs of the lab that are at work here; OMP_NUM_THREADS is its limit.

    The number of threads changes the last bits of a result. So a resumed run keeps what it `recorded`, and the runs of a
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
            say(f"threads: {threads}, not the {kept} that it started with: there are fewer cores; the last bits will differ")
        elif others and threads > share:
            say(f"warning: {threads} threads, as it started, beside {crowd} on {cores} cores: all will be much slower")
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
        cores = min(cores, math.ceil(int(quota) / int(period)))  # "max": no limit
    return max(cores, 1)


def _keep_freed_memory() -> None:
    """Each step needs what the one before has freed; handed back in between, it comes page by page again, and empty.

    Only glibc has the call. Without it the annotated U-Net was slower by a third to a half (benchmarks/reports/speed).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MALLOPT_MMAP_THRESHOLD, 2**30)
        mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)


def cpu_name() -> str:
    """As the processor calls itself, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_has_bf16() -> bool:
    """Whether it multiplies bf16 natively."""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def peak_gigabytes(device: torch.device) -> float:
    """The most that this process has held: of the GPU's memory where it computes there, else of the machine's. In GiB.

    torch counts no peak on mps, which shares the machine's memory: there it is that of the processor.
    """
    if device.type in {"cuda", "xpu"}:
        return float(torch.get_device_module(device).max_memory_allocated(device)) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
