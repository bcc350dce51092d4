"""Levels that grow quadratically."""

import torch
from torch import Tensor

from registry.grids import GRIDS
from registry.options import Fraction
from registry.path import NoisePath


@GRIDS.register("quadratic")
def quadratic(path: NoisePath, count: int, *, top: Fraction = 1.0) -> Tensor:
    """Square roots evenly spaced, from `top` of the path to 0 (Song et al. 2021a, appendix D.2; their code has top 0.8)."""
    return torch.linspace((top * (path.steps - 1)) ** 0.5, 0, count, dtype=torch.float64) ** 2
