"""The variance-exploding path of EDM."""

import torch

from registry.errors import BadInput
from registry.options import Positive
from registry.path import NoisePath
from registry.schedules import SCHEDULES


@SCHEDULES.register("edm")
def edm(
    steps: int, *, sigma_min: Positive = 0.002, sigma_max: Positive = 80.0, rho: Positive = 7.0, shift: Positive = 1.0
) -> NoisePath:
    """x_t = x_0 + sigma eps, the rho-th roots of sigma evenly spaced (Karras et al. 2022, eq. 5)."""
    if sigma_min >= sigma_max:
        raise BadInput(f"sigma_min {sigma_min:g} is not below sigma_max {sigma_max:g}")
    roots = torch.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), steps, dtype=torch.float64)
    return NoisePath(torch.atan(roots**rho), "variance_exploding").shifted(shift)
