"""Points in the plane, by formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.errors import BadInput
from registry.options import Count, NonNegative, NonNegativeInt
from registry.traits import Traits

Shape = Literal["moons", "swiss_roll", "checkerboard", "two_gaussians"]
Points = Callable[[int, float, torch.Generator], tuple[Tensor, Tensor]]  # [N, 2] in [-1, 1] but for noise, and labels [N]
NOISE = 0.03  # where nothing is said
SIZE = 0.9  # of what is drawn, half its width


@DATASETS.register("toy2d", Traits(trial={"count": 16}))
def toy2d(
    *, shape: Shape = "moons", count: Count = 10_000, noise: NonNegative | None = None, seed: NonNegativeInt = 0
) -> ImageSet:  # fmt: skip
    """Points in the plane as images of two channels and one pixel: moons, a swiss roll, a checkerboard or two Gaussians.

    `count` training points and half as many held out. `noise` is the standard deviation of what is added to the curves, in
    units of the plane from -1 to 1 (null: 0.03); the Gaussians have four times as much. Like all images the points are uint8:
    each coordinate is one of 256, 2 / 255 apart.

    Raises:
        BadInput: noise for a checkerboard, which has none.
    """
    if shape == "checkerboard" and noise is not None:
        raise BadInput(f"dataset.noise: {noise:g}, but a checkerboard has none; leave it out")
    points, names = SHAPES[shape]
    rng = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        place, labels = points(count, NOISE if noise is None else noise, rng)
        images = ((place.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Split(images[:, :, None, None], labels if names else None)

    train, test = split(count), split(max(count // 2, 1))
    return ImageSet(f"toy2d_{shape}", train, test, names, "their formula", "MIT, as the lab that generates them")


def _uniform(count: int, rng: torch.Generator) -> Tensor:
    return torch.rand(count, generator=rng, dtype=torch.float64)


def _moons(count: int, noise: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two half circles of radius 1 around (0, 0) and (1, 1/2), the lower one upside down; moved to the middle and scaled."""
    angle, lower = math.pi * _uniform(count, rng), torch.randint(2, (count,), generator=rng)
    x = torch.where(lower > 0, 1 - angle.cos(), angle.cos())
    y = torch.where(lower > 0, 0.5 - angle.sin(), angle.sin())
    return _noisy(SIZE / 1.5 * torch.stack([x - 0.5, y - 0.25], dim=1), noise, rng), lower


def _swiss_roll(count: int, noise: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Archimedes' spiral from angle 1.5 pi to 4.5 pi, its radius proportional to the angle, uniform in the angle."""
    angle = 1.5 * math.pi * (1 + 2 * _uniform(count, rng))
    place = torch.stack([angle.cos(), angle.sin()], dim=1) * (SIZE * angle / (4.5 * math.pi))[:, None]
    return _noisy(place, noise, rng), torch.zeros(count, dtype=torch.long)


def _checkerboard(count: int, noise: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform on the eight cells of a board of 4 x 4 whose column and row number are both even or both odd."""
    row = torch.randint(4, (count,), generator=rng)
    column = 2 * torch.randint(2, (count,), generator=rng) + row % 2
    within = torch.stack([_uniform(count, rng), _uniform(count, rng)], dim=1)
    cell = torch.stack([column, row], dim=1)
    return SIZE * ((cell + within) / 2 - 1), torch.zeros(count, dtype=torch.long)


def _two_gaussians(count: int, noise: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Around (-1/2, 0) and (1/2, 0), as many points around the one as around the other."""
    right = torch.randint(2, (count,), generator=rng)
    centre = torch.stack([right - 0.5, torch.zeros(count)], dim=1)
    return _noisy(centre, 4 * noise, rng), right


def _noisy(place: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    return place + noise * torch.randn(place.shape, generator=rng, dtype=torch.float64)


SHAPES: dict[str, tuple[Points, tuple[str, ...] | None]] = {
    "moons": (_moons, ("upper", "lower")), "swiss_roll": (_swiss_roll, None), "checkerboard": (_checkerboard, None),
    "two_gaussians": (_two_gaussians, ("left", "right")),
}  # fmt: skip
