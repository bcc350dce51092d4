"""The straight path of rectified flow."""

import torch

from registry.options import Positive
from registry.path import NoisePath
from registry.schedules import SCHEDULES


@SCHEDULES.register("flow")
def flow(steps: int, *, shift: Positive = 1.0) -> NoisePath:
    """x_t = (1 - t) x_0 + t eps (Liu et al. 2023, eq. 1; Lipman et al. 2023), t = 1/T ... 1: it ends in pure noise.

    `shift` moves the levels towards noise, as Stable Diffusion 3 does for larger images (Esser et al. 2024, eq. 23).
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return NoisePath(torch.atan2(t, 1 - t), "flow").shifted(shift)
