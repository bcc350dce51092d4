"""Evenly spaced levels."""

import torch
from torch import Tensor

from registry.grids import GRIDS
from registry.path import NoisePath


@GRIDS.register("uniform")
def uniform(path: NoisePath, count: int) -> Tensor:
    """Evenly spaced levels from T - 1 down to 0, both included (Nichol & Dhariwal 2021, section 4)."""
    return torch.linspace(path.steps - 1, 0, count, dtype=torch.float64)
