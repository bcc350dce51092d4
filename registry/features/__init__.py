"""Features: what a Frechet distance is measured in. A part is called with nothing and gives an `Extractor`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from registry.shelf import Shelf, stock

FEATURES = Shelf("features", runtime=())


class Extractor(Protocol):
    """uint8 images [B, C, H, W] -> (features [B, D], logits [B, K] or None), without gradient, in evaluation mode."""

    dimension: int
    class_names: tuple[str, ...] | None  # of the logits, where they are the classes of a data set of the lab's
    classes: int | None  # K
    hash: str  # of the weights, SHA-256
    resize: str  # the rule by which images become the network's input, in words

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]: ...


stock(__name__, __path__)
