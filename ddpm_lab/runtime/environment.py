"""What a run ran on and with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

import torch

from ddpm_lab.runtime.device import describe_device, describe_memory_format, pick_compile
from ddpm_lab.runtime.seeding import STREAMS

PACKAGES = (
    "ddpm_lab", "torch", "torchvision", "torchmetrics", "torch-fidelity", "einops", "numpy", "scipy", "safetensors",
    "pydantic", "wandb", "datasets",
)  # fmt: skip


def describe_environment(
    device: torch.device, precision: str, memory_format: str, compiled: bool | Literal["auto"]
) -> dict[str, Any]:
    """Versions, commit, hardware, and what each `auto` means here."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "device": str(device),
        "hardware": describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "memory_format": describe_memory_format(memory_format, device),
        "compile": pick_compile(compiled, device),
        "random_streams": STREAMS,
        "commit": _commit(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the lab's own checkout, `+changes` where it differs; None where it was installed from a wheel."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path(__file__).resolve().parents[2]:
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
