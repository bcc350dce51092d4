"""What stands between a network and a sampler."""

import math

import pytest
import torch

from ddpm_lab.diffusion.process import Diffusion, thresholded
from registry.samplers import Denoised
from registry.schedules.cosine import cosine
from registry.schedules.edm import edm
from registry.targets import TARGETS


def test_dynamic_thresholding_shrinks_what_is_too_bright_and_leaves_the_rest() -> None:
    """Saharia et al. 2022: s is the quantile of |x_0|, at least 1; clip to [-s, s], divide by s."""
    dim = torch.linspace(-0.8, 0.8, 101)
    bright = torch.linspace(-5, 5, 101)
    found = thresholded(torch.stack([dim, bright]).reshape(2, 1, 1, 101), 0.8).flatten(1)
    torch.testing.assert_close(found[0], dim)
    torch.testing.assert_close(found[1], (bright / 4).clamp(-1, 1), atol=0.05, rtol=0)
    assert float(found.abs().max()) == pytest.approx(1)


@pytest.mark.parametrize("clip", [True, 0.9])
def test_after_clipping_eps_is_recomputed(clip: bool | float) -> None:
    diffusion = Diffusion(cosine(100), TARGETS.configure("epsilon", {})(0.7))
    x, level = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(60.0)
    found = diffusion.sampling(lambda x, level, y: Denoised(3 * x, x, None), None, clip)(x, level)
    alpha, sigma = (float(value) for value in diffusion.path.at(level))
    assert float(found.x0.abs().max()) <= 1
    torch.testing.assert_close(alpha * found.x0 + sigma * found.eps, x)


def test_the_slope_that_weightings_get_is_over_the_whole_path() -> None:
    """The log SNR of EDM's path from 0.002 to 80 falls by 2 ln(80 / 0.002) in all."""
    diffusion = Diffusion(edm(2000), TARGETS.configure("epsilon", {})(0.7))
    level = torch.linspace(0, 1999, 20_001, dtype=torch.float64)
    _, slope = diffusion.snr(level)
    assert float(slope.mean()) == pytest.approx(-2 * math.log(80 / 0.002), rel=1e-2)
