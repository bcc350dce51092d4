"""Where sampling starts, for every grid on every path: the data are Gaussian, so all that follows is in closed form.

From the start N(0, s^2 I) the probability flow of N(MEAN, COVARIANCE) is affine: x_s = alpha_s MEAN + R_s R_t^-1 (x_t - alpha_t
MEAN), R being the symmetric root of alpha^2 COVARIANCE + sigma^2 I. The walk's last step, to the clean image, is the posterior
mean of x_0. A sampler with many steps has to give the mean and the covariance that follow.
"""

import pytest
import torch
from torch import Tensor

from registry.errors import BadInput
from registry.grids import GRIDS
from registry.path import Kind, NoisePath
from registry.samplers import SAMPLERS, Denoised, Grid
from registry.schedules import SCHEDULES
from registry.variances.fixed_small import FixedSmall

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.1], [0.1, 0.4]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
TRUNCATED = [("clipped_log_snr", {"low": low}) for low in (-5.0, -3.0, -1.0)] + [("quadratic", {"top": 0.8})]
SPACINGS = [(part.name, {}) for part in GRIDS] + TRUNCATED


def _paths() -> dict[str, NoisePath]:
    """Every schedule, and of each kind a path that ends long before pure noise."""
    kinds: tuple[Kind, ...] = ("variance_preserving", "flow", "variance_exploding")
    short = {f"{kind}, short": NoisePath.from_log_snr(torch.linspace(12, -2, 200), kind) for kind in kinds}
    return {part.name: SCHEDULES.configure(part.name, {})(1000) for part in SCHEDULES} | short


PATHS = _paths()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def _truth(path: NoisePath, levels: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 that the exact flow makes of N(0, size^2 I), from the first of the levels to the last."""
    (alpha_t, alpha_s), (sigma_t, sigma_s) = path.at(levels[[0, -1]])
    spread_t, spread_s = (_root(a**2 * COVARIANCE + s**2 * EYE) for a, s in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
    gain = alpha_s * COVARIANCE @ torch.linalg.inv(spread_s @ spread_s) @ spread_s @ torch.linalg.inv(spread_t)
    return MEAN - alpha_t * gain @ MEAN, size**2 * gain @ gain.T


def _drawn(path: NoisePath, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what heun draws: it is affine in its only noise, so three probes tell."""

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        x0 = MEAN + (x - alpha * MEAN) @ (alpha * COVARIANCE @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * EYE)).T
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    origin, *ends = SAMPLERS.configure("heun", {})(denoise, Grid(path, levels, FixedSmall()), lambda: probes)
    gain = (torch.stack(ends) - origin).T
    return origin, gain @ gain.T


@pytest.mark.parametrize("name", PATHS)
def test_what_is_drawn_follows_from_the_noise_it_starts_from_whatever_the_grid(name: str) -> None:
    path, tried = PATHS[name], 0
    for grid, options in SPACINGS:
        try:
            levels = GRIDS.configure(grid, options)(path, 160)
        except BadInput:  # it cannot space a path that ends in pure noise
            continue
        tried += 1
        sigma = float(path.at(levels[0])[1])
        truth = _truth(path, levels, 1.0 if path.kind == "variance_preserving" else sigma)
        for found, expected in zip(_drawn(path, levels), truth, strict=True):
            torch.testing.assert_close(found, expected, atol=2e-3, rtol=0, msg=f"{grid} {options}: {found} for {expected}")
    assert tried >= len(SPACINGS) - 2
