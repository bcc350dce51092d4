"""ddpm_lab: a bench for denoising diffusion models of images.

import ddpm_lab
images = ddpm_lab.load("results/latest").sample(16)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_lab.runtime.openmp import limit_spin
from registry.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_lab.inference.trained_run import Run

__all__ = ["BadInput", "load"]

limit_spin()  # here, because whatever of the lab is imported first, this file runs before it, and so before torch


def load(run: str | Path, device: str | None = None) -> Run:
    """Open a run's folder, to sample images from it.

    Raises:
        BadInput: there is no such run, or a part of it is missing or damaged.
    """
    from ddpm_lab.inference.trained_run import Run  # torch is imported when a run is opened, not with the package

    return Run(run, device)
