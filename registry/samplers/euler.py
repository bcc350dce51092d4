"""Euler's method, with churn."""

from torch import Tensor

from registry.options import NonNegative, Positive
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.samplers.churn import TRIAL, Churn


@SAMPLERS.register("euler", SamplerTraits(trial=TRIAL))
def euler(
    denoise: Denoise,
    grid: Grid,
    noise: Noise,
    *,
    churn: NonNegative = 0.0,
    s_min: NonNegative = 0.0,
    s_max: Positive = 1e9,
    s_noise: Positive = 1.0,
) -> Tensor:
    """Euler's method on the probability flow, in sigma / alpha (Karras et al. 2022, algorithm 2 without its correction).

    At churn 0 it is ddim at eta 0, on every path.
    """
    stir = Churn(churn, s_min, s_max, s_noise)
    x = grid.start(noise())
    for planned in grid:
        x, step = stir(x, planned, grid, noise)
        x0, eps, _ = denoise(x, step.level)
        x = step.alpha_s * x0 + step.sigma_s * eps
    return x
