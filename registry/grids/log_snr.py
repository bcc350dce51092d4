"""Levels evenly spaced in log SNR."""

import torch
from torch import Tensor

from registry.grids import GRIDS, require_finite
from registry.path import NoisePath


@GRIDS.register("log_snr")
def log_snr(path: NoisePath, count: int) -> Tensor:
    """Evenly spaced log SNRs between the path's ends (Lu et al. 2022a, section 3.4)."""
    require_finite(path, "log_snr")
    ends = -2 * torch.log(torch.tan(path.angle[[-1, 0]]))
    return path.level(torch.linspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64))
