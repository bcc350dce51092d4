"""Where a sampler's steps make much of errors, and that its images are bad there: the exact denoiser of a mixture tells."""

from functools import cache

import pytest
import torch
from torch import Tensor

from ddpm_lab.diffusion.compatibility import WILD
from ddpm_lab.diffusion.stability import amplification
from registry.errors import BadInput
from registry.grids import GRIDS
from registry.path import NoisePath
from registry.samplers import SAMPLERS, Denoised, Grid
from registry.schedules import SCHEDULES
from registry.variances.fixed_small import FixedSmall
from registry.variances.learned_range import LearnedRange

SHARES = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
MEANS = torch.tensor([-0.9, 0.1, 0.8], dtype=torch.float64)
SPREADS = torch.tensor([0.05, 0.15, 0.1], dtype=torch.float64)
POINTS = 1500
THIRD = {"published": False}  # of dpmpp_3m_sde: the form that extrapolates most
PATHS = {part.name: SCHEDULES.configure(part.name, {})(1000) for part in SCHEDULES}
PATHS["cosine, zero terminal SNR"] = SCHEDULES.configure("cosine", {"zero_terminal_snr": True})(1000)


@cache
def _quantiles() -> Tensor:
    x = torch.linspace(-1.5, 1.5, 60_001, dtype=torch.float64)
    below = (SHARES * torch.special.ndtr((x[:, None] - MEANS) / SPREADS)).sum(1)
    return x[torch.searchsorted(below, (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS)]


def _error(name: str, options: dict[str, bool], path: NoisePath, levels: Tensor) -> float:
    """The Wasserstein distance, W1, of what a sampler draws with the exact denoiser."""

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        away, variance = x[:, None] - alpha * MEANS, alpha**2 * SPREADS**2 + sigma**2
        of_each = torch.softmax(SHARES.log() - 0.5 * variance.log() - away**2 / (2 * variance), dim=1)
        x0 = (of_each * (MEANS + alpha * SPREADS**2 / variance * away)).sum(1)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    rng = torch.Generator().manual_seed(1)
    drawn = SAMPLERS.configure(name, options)(
        denoise, Grid(path, levels, FixedSmall()), lambda: torch.randn(POINTS, generator=rng, dtype=torch.float64)
    )
    return float((drawn.sort().values - _quantiles()).abs().mean())


@pytest.mark.parametrize("name", PATHS)
def test_a_grid_is_warned_of_where_the_images_are_bad_and_only_there(name: str) -> None:
    """Against ddim, which extrapolates nothing, on the same levels: beyond the bound 10 times its error, else at most 4."""
    path, told = PATHS[name], 0
    for grid, options in [
        *((part.name, {}) for part in GRIDS),
        ("quadratic", {"top": 0.8}),
        ("clipped_log_snr", {"low": -5.0}),
    ]:
        try:
            levels = GRIDS.configure(grid, options)(path, 15)
        except BadInput:  # it cannot space a path that ends in pure noise
            continue
        found = amplification(SAMPLERS.configure("dpmpp_3m_sde", THIRD), Grid(path, levels, FixedSmall()))
        assert found.stochastic
        ratio = _error("dpmpp_3m_sde", THIRD, path, levels) / _error("ddim", {}, path, levels)
        print(f"{name}, {grid} {options}: errors grow by {found.factor:.1f}, {ratio:.1f} times the error of ddim")
        told += found.factor > WILD
        assert ratio > 10 if found.factor > WILD else ratio < 4, grid
    assert told == (name != "edm"), "even levels, but for EDM's path, whose levels are spaced for it"


def test_a_sampler_that_takes_one_estimate_at_a_time_only_mixes_them() -> None:
    path = PATHS["cosine"]
    grid = Grid(path, GRIDS.configure("uniform", {})(path, 15), LearnedRange())
    for name, stochastic in (("ddim", False), ("ancestral", True), ("euler", False)):
        found = amplification(SAMPLERS.configure(name, {}), grid)
        assert found.factor < 1.5, name
        assert found.stochastic == stochastic, name


def test_the_evaluation_that_is_named_is_the_one_after_the_jump() -> None:
    path = PATHS["cosine"]
    levels = GRIDS.configure("uniform", {})(path, 15)
    found = amplification(SAMPLERS.configure("dpmpp_3m_sde", THIRD), Grid(path, levels, FixedSmall()))
    jumps = (-path.log_snr(levels).diff()).abs()[1:]  # the first step is of first order
    assert found.evaluation == int(jumps.argmax()) + 3 == 15
