"""Metrics of neighbourhoods against a k-d tree, on Gaussian data and where the answer is plain."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from registry.metrics import density_coverage as neighbours
from registry.metrics import precision_recall as manifolds
from registry.metrics.density_coverage import density_coverage
from registry.metrics.memorisation import nearest_distances
from registry.metrics.precision_recall import precision_recall


def _gaussian(count: int, shift: float, seed: int) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


@pytest.fixture(params=[0.0, 0.7, 50.0])
def sets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    for module in (neighbours, manifolds):
        monkeypatch.setattr(module, "TILE", 64)  # several tiles, the last one not full
    return _gaussian(300, request.param, 0), _gaussian(500, 0.0, 1)


def _within(images: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """[N, M]: whether an image is within the radius of a reference point."""
    radii = cKDTree(reference).query(reference, k=k + 1)[0][:, -1]
    found = np.zeros((len(images), len(reference)), dtype=bool)
    for column, (point, radius) in enumerate(zip(reference, radii, strict=True)):
        found[cKDTree(images).query_ball_point(point, radius), column] = True
    return found


def test_precision_and_recall(sets: tuple[Tensor, Tensor]) -> None:
    images, reference = (tensor.numpy() for tensor in sets)
    wanted = _within(images, reference, 3).any(1).mean(), _within(reference, images, 3).any(1).mean()
    assert precision_recall(*sets) == pytest.approx(wanted, abs=1e-6)


def test_density_and_coverage(sets: tuple[Tensor, Tensor]) -> None:
    within = _within(*(tensor.numpy() for tensor in sets), 5)
    assert density_coverage(*sets) == pytest.approx((within.sum() / (5 * len(within)), within.any(0).mean()), abs=1e-6)


def test_a_set_against_itself_is_covered_and_one_far_away_is_not() -> None:
    one, far = _gaussian(400, 0.0, 0), _gaussian(400, 100.0, 1)
    assert precision_recall(one, one) == (1.0, 1.0)
    assert density_coverage(one, one)[1] == 1.0
    assert precision_recall(far, one) == density_coverage(far, one) == (0.0, 0.0)


def test_nearest_distances_over_batches() -> None:
    images, reference = _gaussian(100, 0.0, 0).float(), _gaussian(333, 0.0, 1).float()
    wanted = cKDTree(reference.numpy()).query(images.numpy())[0]
    assert nearest_distances(images, reference.split(50)).numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-3)
    assert nearest_distances(reference[:7], reference.split(50)).max() < 1e-2
