"""ddpm_lab: a bench for denoising diffusion models of images.

import ddpm_lab as lab

run = lab.train("cosine_l2", images=20_000)
run.sample(16, steps=20)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ddpm_lab.runtime.openmp import limit_spin
from registry.errors import BadInput

if TYPE_CHECKING:
    from ddpm_lab.api.calls import compare, load, picture, train, verdict
    from ddpm_lab.api.parts import parts
    from ddpm_lab.api.run import Run

    __version__: str

__all__ = ["BadInput", "Run", "compare", "load", "parts", "picture", "train", "verdict"]

limit_spin()  # here, because whatever of the lab is imported first, this file runs before it, and so before torch

# Torch is imported when one of these is first used, not with the package.
_PLACES = {"parts": "ddpm_lab.api.parts", "Run": "ddpm_lab.api.run"}
_PLACES |= dict.fromkeys(("compare", "load", "picture", "train", "verdict"), "ddpm_lab.api.calls")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ddpm_lab")
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'ddpm_lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES, "__version__"])
