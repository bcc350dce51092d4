"""The quadratic schedule, and the one of Stable Diffusion, which is the same with other ends."""

import torch

from registry.options import Positive
from registry.path import NoisePath
from registry.schedules import PUBLISHED_BETAS, SCHEDULES


@SCHEDULES.register("quadratic", PUBLISHED_BETAS)
def quadratic(
    steps: int,
    *,
    start: Positive = 1e-4,
    end: Positive = 0.02,
    scale: bool = True,
    zero_terminal_snr: bool = False,
    shift: Positive = 1.0,
) -> NoisePath:
    """Betas whose square roots grow linearly (Song et al. 2021a's code, Rombach et al. 2022), scaled by 1000 / T.

    `scale: false` leaves the published betas, which were meant for T = 1000, as they are.
    """
    # The betas are scaled, not their roots: with `steps` the whole path keeps its shape.
    factor = 1000 / steps if scale else 1.0
    betas = factor * torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return NoisePath.from_betas(betas.clamp(max=0.999)).adapted(zero_terminal_snr, shift)


@SCHEDULES.register("scaled_linear", PUBLISHED_BETAS)
def scaled_linear(
    steps: int,
    *,
    start: Positive = 0.00085,
    end: Positive = 0.012,
    scale: bool = True,
    zero_terminal_snr: bool = False,
    shift: Positive = 1.0,
) -> NoisePath:
    """`quadratic` with the ends of Stable Diffusion and under the name that it has there (Rombach et al. 2022, code)."""
    return quadratic(steps, start=start, end=end, scale=scale, zero_terminal_snr=zero_terminal_snr, shift=shift)
