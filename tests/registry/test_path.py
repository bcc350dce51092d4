"""NoisePath: identities of the curve, and DDPM's own numbers at the knots."""

import numpy as np
import pytest
import torch

from registry.path import Kind, NoisePath
from registry.schedules.cosine import cosine
from registry.schedules.linear import linear

PATHS = [cosine(1000), linear(1000), linear(50), cosine(2)]
ANGLES = torch.linspace(0.01, 1.5, 20, dtype=torch.float64)


def _levels(path: NoisePath) -> torch.Tensor:
    return torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (path.steps - 1)


@pytest.mark.parametrize("path", PATHS)
def test_variance_is_preserved_between_knots_too(path: NoisePath) -> None:
    alpha, sigma = path.at(_levels(path))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("kind", "invariant"), [("flow", lambda a, s: a + s), ("variance_exploding", lambda a, s: a)])
def test_other_curves_are_kept_to_as_well(kind: Kind, invariant: object) -> None:
    path = NoisePath(ANGLES, kind)
    alpha, sigma = path.at(_levels(path))
    torch.testing.assert_close(invariant(alpha, sigma), torch.ones_like(alpha), rtol=0, atol=1e-14)  # type: ignore[operator]
    torch.testing.assert_close(path.log_snr(_levels(path)), 2 * (alpha / sigma).log())


@pytest.mark.parametrize("path", PATHS)
def test_log_snr_falls_and_is_inverted_at_any_real_level(path: NoisePath) -> None:
    level = _levels(path).sort().values
    log_snr = path.log_snr(level)
    assert bool((log_snr.diff() < 0).all())
    torch.testing.assert_close(path.level(log_snr), level, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_slope_is_the_derivative(path: NoisePath) -> None:
    level = _levels(path).floor() + 0.5
    level = level.clamp(max=path.steps - 1.5)
    step = 1e-4
    numeric = (path.log_snr(level + step) - path.log_snr(level - step)) / (2 * step)
    torch.testing.assert_close(path.log_snr_slope(level), numeric, rtol=1e-5, atol=1e-8)


def test_knots_are_ddpms_cumulative_products() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha, sigma = NoisePath.from_betas(torch.from_numpy(betas)).at(torch.arange(1000))
    np.testing.assert_allclose(alpha.numpy() ** 2, np.cumprod(1 - betas), rtol=1e-10)
    np.testing.assert_allclose(sigma.numpy() ** 2, 1 - np.cumprod(1 - betas), rtol=1e-8)


def test_one_knot_is_a_path() -> None:
    path = cosine(1)
    assert float(path.log_snr_slope(torch.zeros(1))) == 0
    assert path.at(torch.zeros(3))[0].shape == (3,)


@pytest.mark.parametrize("angle", [[], [0.5, 0.5], [0.5, 0.4], [-0.1, 0.5], [0.5, 1.6]])
def test_knots_that_are_no_path_are_refused(angle: list[float]) -> None:
    with pytest.raises(ValueError, match="noise"):
        NoisePath(torch.tensor(angle), "variance_preserving")
