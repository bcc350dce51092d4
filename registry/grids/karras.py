"""The levels of EDM."""

import torch
from torch import Tensor

from registry.grids import GRIDS, require_finite
from registry.options import Positive
from registry.path import NoisePath


@GRIDS.register("karras")
def karras(path: NoisePath, count: int, *, rho: Positive = 7.0) -> Tensor:
    """The rho-th roots of sigma / alpha evenly spaced between the path's ends (Karras et al. 2022, eq. 5)."""
    require_finite(path, "karras")
    ratio = torch.tan(path.angle)
    roots = torch.linspace(float(ratio[-1]) ** (1 / rho), float(ratio[0]) ** (1 / rho), count, dtype=torch.float64)
    return path.level(-2 * rho * torch.log(roots))
