"""Faults planted in real images: what a distance should notice, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.v2.functional import gaussian_blur

from ddpm_lab.runtime.seeding import protocol_generator
from registry.datasets import ImageSet, Split


class Sets(NamedTuple):
    """uint8 images [N, C, H, W]: `real` are held out; the others are as many training images and what else is held out."""

    real: Tensor
    train: Tensor
    test: Split


Fault = Callable[[Sets], Tensor]


def sets(data: ImageSet, n: int) -> Sets:
    """A fixed random choice; `real` are those that the floor is measured on."""
    assert isinstance(data.test, Split)
    held_out = torch.randperm(len(data.test), generator=protocol_generator("floor"))[:n]
    known = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:n]
    return Sets(data.test.rows(held_out), data.train.rows(known), data.test)


def _noisy(deviation: float) -> Fault:
    def fault(given: Sets) -> Tensor:
        noise = torch.randn(given.real.shape, generator=torch.Generator().manual_seed(1))
        return (given.real + deviation * noise).round().clamp(0, 255).to(torch.uint8)

    return fault


def _without(*classes: int) -> Fault:
    def fault(given: Sets) -> Tensor:
        assert given.test.labels is not None
        kept = (~torch.isin(given.test.labels, torch.tensor(classes))).nonzero()[:, 0]
        chosen = torch.randperm(len(kept), generator=torch.Generator().manual_seed(2))[: len(given.real)]
        return given.test.rows(kept[chosen])

    return fault


def _quantised(given: Sets) -> Tensor:
    return ((given.real.float() / 255 * 7).round() / 7 * 255).round().to(torch.uint8)


def _half(of: Callable[[Sets], Tensor]) -> Fault:
    """Half of the images are others."""

    def fault(given: Sets) -> Tensor:
        half = len(given.real) // 2
        return torch.cat([given.real[:half], of(given)[: len(given.real) - half]])

    return fault


FAULTS: dict[str, Fault] = {
    "blur, sigma 0.4 pixels": lambda given: gaussian_blur(given.real, [5, 5], [0.4, 0.4]),
    "blur, sigma 0.7 pixels": lambda given: gaussian_blur(given.real, [5, 5], [0.7, 0.7]),
    "noise, sigma 8 of 255": _noisy(8),
    "noise, sigma 16 of 255": _noisy(16),
    "JPEG, quality 50": lambda given: torch.stack([decode_jpeg(encode_jpeg(image, 50)) for image in given.real]),
    "8 levels of gray": _quantised,
    "shifted by 1 pixel": lambda given: given.real.roll(1, dims=3),
    "half of them mirrored": _half(lambda given: given.real.flip(3)),
    "class 5 missing": _without(5),
    "classes 5 to 9 missing": _without(5, 6, 7, 8, 9),
    "half of them copies of 50 others": _half(lambda given: given.train[:50].repeat(len(given.real) // 50, 1, 1, 1)),
    "half of them training images": _half(lambda given: given.train),
}
