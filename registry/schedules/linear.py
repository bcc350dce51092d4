"""The linear schedule."""

import torch

from registry.options import Positive
from registry.path import NoisePath
from registry.schedules import PUBLISHED_BETAS, SCHEDULES


@SCHEDULES.register("linear", PUBLISHED_BETAS)
def linear(
    steps: int,
    *,
    start: Positive = 1e-4,
    end: Positive = 0.02,
    scale: bool = True,
    zero_terminal_snr: bool = False,
    shift: Positive = 1.0,
) -> NoisePath:
    """Betas that grow linearly (Ho et al. 2020, section 4), scaled by 1000 / T so that every T ends near pure noise.

    `scale: false` leaves the published betas, which were meant for T = 1000, as they are.
    """
    factor = 1000 / steps if scale else 1.0
    betas = torch.linspace(start * factor, end * factor, steps, dtype=torch.float64)
    return NoisePath.from_betas(betas.clamp(max=0.999)).adapted(zero_terminal_snr, shift)
