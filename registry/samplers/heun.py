"""Heun's method, with churn."""

from torch import Tensor

from registry.options import NonNegative, Positive
from registry.samplers import SAMPLERS, Denoise, Grid, Noise
from registry.samplers.churn import Churn


@SAMPLERS.register("heun")
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

    Two evaluations a step; one in the last, and in a first one from pure noise.
    """
    stir = Churn(churn, s_min, s_max, s_noise)
    x = grid.start(noise())
    for planned in grid:
        x, step = stir(x, planned, grid, noise)
        x0, eps, _ = denoise(x, step.level)
        alpha_s, sigma_s = step.alpha_s.to(x.dtype), step.sigma_s.to(x.dtype)
        there = alpha_s * x0 + sigma_s * eps
        if step.is_finite and step.level_s is not None:
            # In x / alpha the slope over sigma / alpha is eps itself.
            eps = (eps + denoise(there, step.level_s).eps) / 2
            moved = step.sigma_s / step.alpha_s - step.sigma_t / step.alpha_t
            there = alpha_s * (x / step.alpha_t.to(x.dtype) + moved.to(x.dtype) * eps)
        x = there
    return x
