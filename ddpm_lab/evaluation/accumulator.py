"""Whatever looks at images: shown batch after batch, in one process or several, and then brought together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import Progress


class Accumulator(Protocol):
    """Keeps of images what a metric needs, and no image for longer than that."""

    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W], the first of number `start`."""

    def merge(self) -> None:
        """Bring together what the processes have, in the main one."""


def gather(
    accumulators: Sequence[Accumulator], batches: Iterable[tuple[int, Tensor]], total: int, what: str, *, passing: bool = False,
    shared: bool = False,
) -> None:  # fmt: skip
    """Show all images to all accumulators; each image is sampled once and none is kept.

    `shared`: each process brings the batches that were dealt to it, and the main one gets what all have seen.
    """
    with Progress(what, total, passing=passing) as bar:
        for start, images in batches:
            for accumulator in accumulators:
                accumulator.add(start, images)
            bar.advance(min(len(images) * (distributed.size() if shared else 1), total - bar.done))
    if shared:
        for accumulator in accumulators:
            accumulator.merge()


def numbered(batches: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Batches of images, each with the index of its first image."""
    start = 0
    for images in batches:
        yield start, images
        start += len(images)
