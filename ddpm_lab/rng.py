"""Random numbers that depend on what they are for, and on nothing else.

Each generator is seeded by (seed, purpose, where in the run), so a resumed run needs no saved state, the number of processes
changes nothing, and an image does not depend on the batch in which it was sampled.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor


def generator(seed: int, purpose: str, *index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator for one purpose at one place: `generator(seed, "noise", step)`."""
    digest = hashlib.sha256(repr((seed, purpose, index)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class ImageNoise:
    """Standard normal tensors for a batch of images, each image from a generator of its own.

    `noise()` gives the next [len(indices), *shape]; image i of the run meets the same numbers in any batch.
    """

    def __init__(self, seed: int, indices: range, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._generators = [generator(seed, "sample", index) for index in indices]
        self._shape = shape
        self._device = device

    def __call__(self) -> Tensor:
        # Drawn on the CPU on every machine: a sample's noise is then the same on a laptop and on a GPU.
        drawn = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self._device)


@functools.lru_cache(maxsize=2)  # a batch may straddle two epochs
def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the data in an epoch: a permutation of `count`, int64."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def shuffled(seed: int, count: int, start: int, size: int) -> Iterator[Tensor]:
    """Batches of indices without end, from image number `start`, each of `size`; a batch may straddle two epochs."""
    position = start
    while True:
        pieces: list[Tensor] = []
        missing = size
        while missing:
            epoch, offset = divmod(position, count)
            if (not pieces and position == start) or offset == 0:
                order = epoch_order(seed, epoch, count)
            pieces.append(order[offset : offset + missing])
            missing -= len(pieces[-1])
            position += len(pieces[-1])
        yield torch.cat(pieces)
