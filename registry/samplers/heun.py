"""Heun's method, with churn."""

import torch
from torch import Tensor

from registry.options import NonNegative, Positive
from registry.path import Kind
from registry.samplers import SAMPLERS, Denoise, Denoised, Grid, Noise, SamplerTraits
from registry.samplers.churn import Churn


@SAMPLERS.register("heun", SamplerTraits(order=2))
def heun(
    denoise: Denoise,
    grid: Grid,
    noise: Noise,
    *,
    churn: NonNegative = 0.0,
    s_min: NonNegative = 0.0,
    s_max: Positive = 1e9,
    s_noise: Positive = 1.0,
) -> Tensor:
    """EDM's sampler: Euler, then the mean of the slopes at both ends (Karras et al. 2022, algorithms 1 and 2).

    The slope is over the path's own time, so that it is bounded at pure noise too: sigma where the variance explodes, as
    published, and on the flow; the angle where it is preserved, over which the slope is v. Two evaluations a step; one in
    the last.
    """
    stir = Churn(churn, s_min, s_max, s_noise)
    x = grid.start(noise())
    for planned in grid:
        x, step = stir(x, planned, grid, noise)
        seen = denoise(x, step.level)
        there = step.alpha_s.to(x.dtype) * seen.x0 + step.sigma_s.to(x.dtype) * seen.eps
        if step.level_s is not None:
            kind = grid.path.kind
            slope = _slope(seen, step.alpha_t, step.sigma_t, kind)
            slope_there = _slope(denoise(there, step.level_s), step.alpha_s, step.sigma_s, kind)
            moved = _time(step.alpha_s, step.sigma_s, kind) - _time(step.alpha_t, step.sigma_t, kind)
            there = x + moved.to(x.dtype) * (slope + slope_there) / 2
        x = there
    return x


def _time(alpha: Tensor, sigma: Tensor, kind: Kind) -> Tensor:
    return torch.atan2(sigma, alpha) if kind == "variance_preserving" else sigma


def _slope(seen: Denoised, alpha: Tensor, sigma: Tensor, kind: Kind) -> Tensor:
    """d x / d time = x0 d alpha / d time + eps d sigma / d time."""
    if kind == "variance_exploding":
        return seen.eps
    if kind == "flow":
        return seen.eps - seen.x0
    return alpha.to(seen.x0.dtype) * seen.eps - sigma.to(seen.x0.dtype) * seen.x0
