"""Datasets: images and labels in memory. A part is called with nothing and gives an `ImageSet`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from registry.shelf import Shelf, stock

DATASETS = Shelf("dataset", runtime=())


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, C, H, W]; labels: int64 [N], or None."""

    images: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the shape, the pixels and the labels."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """A data set: `train` is learnt from and is the reference of a Frechet distance, `test` is held out and is its floor."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...] | None
    source: str
    license: str = "unknown"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int | None:
        """K, where the images are labelled."""
        return len(self.class_names) if self.class_names else None

    @cached_property
    def std(self) -> float:
        """Standard deviation over all training pixels, in units of the [-1, 1] range."""
        counts = self.train.images.flatten().bincount(minlength=256).double()
        values = counts.new_tensor(range(256)) / 127.5 - 1
        mean = (counts * values).sum() / counts.sum()
        return float(((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt())


stock(__name__, __path__)
