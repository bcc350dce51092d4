"""Evenly spaced levels from the end of the path."""

import torch
from torch import Tensor

from registry.grids import GRIDS
from registry.path import NoisePath


@GRIDS.register("trailing")
def trailing(path: NoisePath, count: int) -> Tensor:
    """T - 1 and every T / count below it: the last step is as long as the others (Lin et al. 2024, table 2)."""
    return path.steps * (1 - torch.arange(count, dtype=torch.float64) / count) - 1
