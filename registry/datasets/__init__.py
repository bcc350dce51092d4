"""Datasets: images and labels. A part is called with nothing and gives an `ImageSet`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits

DATASETS: Registry[Callable[[], ImageSet], Traits] = Registry("dataset", runtime=())
BATCH = 500


class Contents(NamedTuple):
    """What one pass over all images tells."""

    hash: str  # SHA-256 of the shape, the pixels and the labels
    histogram: list[int]  # how many pixels have each of the 256 values


class Images(ABC):
    """Half of a data set: N uint8 images [C, H, W], and their labels, int64 [N], or None."""

    labels: Tensor | None
    streamed: bool

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @abstractmethod
    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order."""

    @cached_property
    def contents(self) -> Contents:
        """Hash and histogram, the same whether the images lie in memory or are streamed."""
        return self._read_through(self.batches(BATCH))

    def _read_through(self, batches: Iterable[Tensor]) -> Contents:
        digest = hashlib.sha256(str((len(self), *self.image_shape)).encode())
        histogram = torch.zeros(256, dtype=torch.int64)
        for images in batches:
            digest.update(images.contiguous().numpy().data)
            histogram += images.flatten().bincount(minlength=256)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return Contents(digest.hexdigest(), histogram.tolist())

    @property
    def hash(self) -> str:
        """SHA-256 of the shape, the pixels and the labels."""
        return self.contents.hash


@dataclass(frozen=True)
class Split(Images):
    """In memory. images: uint8 [N, C, H, W]; labels: int64 [N], or None."""

    images: Tensor
    labels: Tensor | None
    streamed = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""
        return self.images[indices]

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        yield from self.images.split(size)


@dataclass(frozen=True)
class ImageSet:
    """A data set: `train` is learnt from and is the reference of a Frechet distance, `test` is held out and is its floor."""

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...] | None
    source: str
    license: str = "unknown"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.train.image_shape

    @property
    def classes(self) -> int | None:
        """K, where the images are labelled."""
        return len(self.class_names) if self.class_names else None

    @cached_property
    def std(self) -> float:
        """Standard deviation over all training pixels, in units of the [-1, 1] range."""
        counts = torch.tensor(self.train.contents.histogram, dtype=torch.float64)
        values = counts.new_tensor(range(256)) / 127.5 - 1
        mean = (counts * values).sum() / counts.sum()
        return float(((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt())


stock(__name__, __path__)
