"""DPM-Solver++, second order, multistep, for the stochastic equation."""

import torch
from torch import Tensor

from registry.options import NonNegative
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits


@SAMPLERS.register("dpmpp_2m_sde", SamplerTraits(order=2))
def dpmpp_2m_sde(denoise: Denoise, grid: Grid, noise: Noise, *, eta: NonNegative = 1.0) -> Tensor:
    """SDE-DPM-Solver++(2M): as dpmpp_2m, with noise in each step (Lu et al. 2022b, section 5; k-diffusion's midpoint form).

    `eta` scales the noise; at 0 it is dpmpp_2m. Steps from pure noise and to the clean image are of first order.
    """
    x = grid.start(noise())
    before, h_before = None, None
    for step in grid:
        x0, h = denoise(x, step.level).x0, step.h
        decay = torch.exp(-eta * h) if eta else torch.ones_like(h)  # 0 at the last step, whose h is infinite
        gain = -step.alpha_s * torch.expm1(-(1 + eta) * h)
        moved = (step.sigma_s / step.sigma_t * decay) * x + gain * x0
        if before is not None and h_before is not None and step.is_finite:
            moved = moved + (gain * h / (2 * h_before)) * (x0 - before)
        if eta > 0 and step.sigma_s > 0:
            moved = moved + (step.sigma_s * (1 - decay**2).sqrt()) * noise()
        before, h_before, x = x0, h if step.is_finite else None, moved
    return x
