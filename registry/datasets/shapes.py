"""Shapes drawn by code: the data set that is always at hand."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.options import Count, NonNegativeInt, Side
from registry.traits import Traits

CLASS_NAMES = ("disc", "square", "cross")


@DATASETS.register("shapes", Traits(trial={"size": 8, "count": 16}))
def shapes(*, size: Side = 16, channels: Literal[1, 3] = 1, count: Count = 512, seed: NonNegativeInt = 0) -> ImageSet:
    """Discs, squares and crosses of random place, size and brightness, drawn by code; for tests.

    `count` training images and half as many held out.
    """
    rng = torch.Generator().manual_seed(seed)
    train, test = (_draw(number, size, channels, rng) for number in (count, max(count // 2, 1)))
    return ImageSet("shapes", train, test, CLASS_NAMES, "drawn by code", "MIT, as the lab that draws them")


def _draw(count: int, size: int, channels: int, rng: torch.Generator) -> Split:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, 1, 1, generator=rng)

    labels = torch.randint(3, (count,), generator=rng)
    radius = uniform(0.15, 0.3) * size
    row, column = (uniform(0.35, 0.65) * size for _ in range(2))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    dy, dx = (y - row).abs(), (x - column).abs()  # [count, size, size]
    masks = torch.stack(
        [
            dy**2 + dx**2 < radius**2,
            torch.maximum(dy, dx) < radius,
            (torch.minimum(dy, dx) < radius / 3) & (torch.maximum(dy, dx) < radius),
        ]
    )  # [3, count, size, size]
    mask = masks[labels, torch.arange(count)][:, None]  # [count, 1, size, size]
    images = (mask * uniform(120, 255, channels)).to(torch.uint8)  # [count, channels, size, size]
    return Split(images, labels)
