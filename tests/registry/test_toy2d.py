"""Points in the plane, against what is known of each shape; the distance between sets of them, against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from ddpm_lab.diffusion.process import to_unit
from ddpm_lab.storage.images import CANVAS, grid_of
from registry.datasets import DATASETS, ImageSet, Split
from registry.errors import BadInput
from registry.metrics.wasserstein import distance

N = 20_000
STEP = 2 / 255  # between neighbouring values of a coordinate


def _made(shape: str, **options: object) -> ImageSet:
    made: ImageSet = DATASETS.configure("toy2d", {"shape": shape, "count": N, **options})()
    return made


def _points(shape: str, **options: object) -> tuple[Tensor, Tensor | None]:
    split = _made(shape, **options).train
    assert isinstance(split, Split)
    return to_unit(split.images)[:, :, 0, 0].double(), split.labels


def test_moons_are_half_circles() -> None:
    points, labels = _points("moons", noise=0)
    assert labels is not None
    for label, centre, up in ((0, (-0.3, -0.15), 1), (1, (0.3, 0.15), -1)):  # 0.6 times (0, 0) and (1, 1/2), less (1/2, 1/4)
        away = points[labels == label] - torch.tensor(centre)
        assert (away.norm(dim=1) - 0.6).abs().max() < STEP
        assert (up * away[:, 1]).min() > -STEP
        assert float((up * away[:, 1]).mean()) == pytest.approx(0.6 * 2 / math.pi, abs=0.01)  # of a half circle


def test_noise_for_a_checkerboard_is_refused() -> None:
    with pytest.raises(BadInput, match=r"dataset\.noise: 0\.1, but a checkerboard has none"):
        _made("checkerboard", noise=0.1)


def test_a_swiss_roll_is_a_spiral() -> None:
    points, _ = _points("swiss_roll", noise=0)
    radius, angle = points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])
    turns = (radius / 0.4 - angle / (2 * math.pi)) % 1  # the radius grows by 0.9 / 4.5 pi with each radian
    assert torch.minimum(turns, 1 - turns).max() < 2 * STEP / 0.4
    assert 0.3 - STEP < radius.min() < 0.31
    assert 0.89 < radius.max() < 0.9 + STEP
    assert float(radius.mean()) == pytest.approx(0.6, abs=0.005)  # uniform in the angle


def test_a_checkerboard_has_its_eight_cells() -> None:
    points, _ = _points("checkerboard")
    cell = ((points / 0.9 + 1) * 2).clamp(0, 3.999)
    inside = (cell - cell.round()).abs().min(dim=1).values > 2 * STEP  # rounding moves those at the edges
    column, row = cell[inside].floor().long().T
    assert bool(((column + row) % 2 == 0).all())
    counts = torch.bincount(4 * column + row, minlength=16)[torch.tensor([0, 2, 5, 7, 8, 10, 13, 15])]
    assert float((counts - inside.sum() / 8).abs().max()) < 5 * math.sqrt(N / 8)


def test_two_gaussians_are_two() -> None:
    points, labels = _points("two_gaussians", noise=0.02)
    assert labels is not None
    for label, x in ((0, -0.5), (1, 0.5)):
        mine = points[labels == label]
        torch.testing.assert_close(mine.mean(dim=0), torch.tensor([x, 0.0]).double(), atol=0.005, rtol=0)
        torch.testing.assert_close(mine.T.cov(), 0.08**2 * torch.eye(2).double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("shape", ["moons", "swiss_roll", "checkerboard", "two_gaussians"])
def test_256_values_of_a_coordinate_are_enough(shape: str) -> None:
    """Rounding moves a point by less than a fifth of the distance between two sets of a thousand."""
    data = _made(shape, seed=1)
    points, held_out = (to_unit(half.rows(torch.arange(1000)))[:, :, 0, 0].double() for half in (data.train, data.test))
    moved = STEP / math.sqrt(12) * math.sqrt(2)  # a uniform error of each coordinate
    assert moved < 0.2 * distance(points, held_out)
    assert _made(shape).train.hash != data.train.hash


def test_the_distance_of_moved_points_is_how_far_they_moved() -> None:
    points = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    away = torch.tensor([0.3, -0.4])
    assert distance(points, points[torch.randperm(300)]) == pytest.approx(0, abs=1e-7)
    assert distance(points, points[torch.randperm(300)] + away) == pytest.approx(0.5, rel=1e-6)


def test_the_distance_on_a_line_is_that_of_scipy() -> None:
    from scipy.stats import wasserstein_distance

    one, other = torch.randn(200, 1, generator=torch.Generator().manual_seed(1)), torch.rand(200, 1)
    assert distance(one, other) == pytest.approx(wasserstein_distance(one[:, 0], other[:, 0]), rel=1e-6)


def test_points_are_drawn_where_they_are() -> None:
    corner = torch.tensor([255, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    picture = grid_of(corner)
    assert picture.size == (CANVAS, CANVAS)
    assert picture.getpixel((CANVAS - 1, 0)) != (255, 255, 255)  # x to the right, y upwards
    assert picture.getpixel((0, 0)) == picture.getpixel((0, CANVAS - 1)) == (255, 255, 255)
