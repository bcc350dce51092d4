"""The interval of a distance: its coverage of the expected distance at that N, and its variance where that is known."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from registry.metrics.interval import BLOCKS, frechet_interval, jackknife_interval
from registry.metrics.moments import Moments

D, N, TRIALS = 8, 400, 400
SCALE = torch.logspace(0, -1, D, dtype=torch.float64)


def _reference() -> Moments:
    """What a reference of very many images has: mean 0, variances SCALE^2."""
    n = 10**9
    return Moments(torch.zeros(D, dtype=torch.float64), torch.diag(SCALE**2) * (n - 1), torch.tensor(n))


def _distance(features: Tensor) -> Tensor:
    """To that reference, for features [T, N, D]: the formula for Gaussians, by the eigenvalues of the product."""
    mean, centred = features.mean(1), features - features.mean(1, keepdim=True)
    covariance = centred.mT @ centred / (features.shape[1] - 1)
    shared = torch.linalg.eigvals(covariance @ torch.diag(SCALE**2)).real.clamp(min=0).sqrt().sum(-1)
    return mean.square().sum(-1) + covariance.diagonal(dim1=-2, dim2=-1).sum(-1) + (SCALE**2).sum() - 2 * shared


BETWEEN = [pytest.param(shift, stretch, marks=pytest.mark.slow) for shift, stretch in ((0.05, 1.0), (0.3, 1.0), (0.0, 1.5))]


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), *BETWEEN, (2.0, 0.5)])
def test_it_covers_the_expected_distance_near_and_far(shift: float, stretch: float) -> None:
    """The distance of N images is biased upward; what is covered is its mean at that N."""
    rng = torch.Generator().manual_seed(0)

    def draw(trials: int) -> Tensor:
        return (torch.randn(trials, N, D, generator=rng, dtype=torch.float64) * stretch + shift) * SCALE

    expected = float(torch.cat([_distance(draw(500)) for _ in range(20)]).mean())
    covered = 0
    for features in draw(TRIALS):
        low_high = frechet_interval(_reference(), Moments.of(features.view(BLOCKS, -1, D)))
        assert low_high is not None
        assert low_high[0] < float(_distance(features[None])) < low_high[1]
        covered += low_high[0] <= expected <= low_high[1]
    assert 0.90 <= covered / TRIALS <= 0.98


def test_far_away_it_is_the_interval_of_the_textbook() -> None:
    """A mean has no second-order term, and where it is large the cube root is straight."""
    values = 1000 + torch.randn(BLOCKS, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mean(1)

    def mean(left_out: Sequence[int]) -> float:
        return float(values[[i for i in range(BLOCKS) if i not in left_out]].mean())

    low, high = jackknife_interval(mean, BLOCKS)
    t = 2.262157  # Student's, 9 degrees of freedom, 97.5 %
    assert (high - low) / 2 == pytest.approx(t * float(values.std()) / math.sqrt(BLOCKS), rel=1e-4)
    assert (high + low) / 2 == pytest.approx(float(values.mean()), rel=1e-6)


def test_a_set_against_itself_has_no_width() -> None:
    features = torch.randn(BLOCKS, 40, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, _ = frechet_interval(Moments.of(features.flatten(0, 1)), Moments.of(features)) or (1.0, 1.0)
    assert low == pytest.approx(0, abs=1e-9)


def test_too_few_images_have_none() -> None:
    assert frechet_interval(_reference(), Moments.of(torch.randn(BLOCKS, 9, D, dtype=torch.float64))) is None
