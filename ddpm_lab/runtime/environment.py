"""What a run ran on and with. The record of it is read where nothing else needs torch, so that is imported late."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "ddpm_lab", "torch", "torchvision", "torchmetrics", "torch-fidelity", "einops", "numpy", "scipy", "safetensors",
    "pydantic", "wandb", "datasets",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """environment.json; what that of an older run does not say is None, or empty."""

    python: str = ""
    system: str = ""
    device: str = ""
    hardware: str = ""
    threads: Annotated[int, Field(gt=0)] | None = None
    precision: str = ""
    memory_format: str = ""
    compile: bool | None = None
    random_streams: int | None = None
    commit: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)  # hashes of the code that trains, piece by piece
    replaced: tuple[str, ...] = ()  # functions of the lab that were not its own
    version: int = 1


def describe_environment(
    device: torch.device, precision: str, memory_format: str, compiled: bool | Literal["auto"]
) -> Environment:
    """Versions, commit, hardware, and what each `auto` means here."""
    import torch

    from ddpm_lab.runtime.device import describe_device, describe_memory_format, pick_compile
    from ddpm_lab.runtime.seeding import STREAMS

    return Environment(
        platform.python_version(), platform.platform(terse=True), str(device), describe_device(device),
        torch.get_num_threads(), precision, describe_memory_format(memory_format, device), pick_compile(compiled, device),
        STREAMS, _commit(), {name: version for name in PACKAGES if (version := _version(name))},
    )  # fmt: skip


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
