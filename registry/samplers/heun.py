"""Heun's method, with churn."""

from torch import Tensor

from registry.options import NonNegative, Positive
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.samplers.churn import TRIAL, Churn


@SAMPLERS.register("heun", SamplerTraits(order=2, trial=TRIAL))
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
    stir, curve = Churn(churn, s_min, s_max, s_noise), grid.path.curve
    x = grid.start(noise())
    for planned in grid:
        x, step = stir(x, planned, grid, noise)
        seen = denoise(x, step.level)
        there = step.alpha_s * seen.x0 + step.sigma_s * seen.eps
        if step.level_s is not None:
            then = denoise(there, step.level_s)
            slope = curve.slope(seen.x0, seen.eps, step.alpha_t, step.sigma_t)
            slope_there = curve.slope(then.x0, then.eps, step.alpha_s, step.sigma_s)
            moved = curve.time(step.alpha_s, step.sigma_s) - curve.time(step.alpha_t, step.sigma_t)
            there = x + moved * (slope + slope_there) / 2
        x = there
    return x
